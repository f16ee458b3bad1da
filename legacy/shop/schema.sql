-- The Shop DB: clients and orders, and the CRM's way into both. Applied once by the owner, role shop.
CREATE TABLE clients (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  email text NOT NULL UNIQUE,
  full_name text NOT NULL,
  phone text,
  address jsonb,
  password_hash text NOT NULL,
  consents text[] NOT NULL DEFAULT '{}',
  loyalty_points numeric(12,2) NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE orders (
  id uuid PRIMARY KEY,
  client_id bigint REFERENCES clients,
  source text NOT NULL DEFAULT 'shop' CHECK (source IN ('shop', 'partner')),
  external_id text,
  status text NOT NULL,
  model_key text,
  model_sha256 text,
  model_bytes bigint,
  material text NOT NULL,
  quantity int NOT NULL,
  comment text,
  price numeric(12,2),
  currency text,
  crm_sent_at timestamptz,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_to_send ON orders (created_at) WHERE status = 'SUBMITTED' AND crm_sent_at IS NULL;
CREATE INDEX orders_by_status ON orders (status, created_at DESC);
CREATE INDEX orders_newest ON orders (created_at DESC);

-- The CRM has no database: it works in this one. It never sees a password.
GRANT USAGE ON SCHEMA public TO crm;
GRANT SELECT (id, email, full_name, phone, address, consents, loyalty_points, created_at, updated_at),
  UPDATE (full_name, phone, address, consents, updated_at) ON clients TO crm;
GRANT SELECT, INSERT, UPDATE (status, price, currency, crm_sent_at, updated_at) ON orders TO crm;

-- The MES database. Applied once by the owner, role mes.
-- order_id is not unique: the same message twice is two rows of work.
CREATE TABLE orders (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id uuid NOT NULL,
  source text NOT NULL,
  external_id text,
  partner text,
  client_id bigint,
  customer_tier text,
  status text NOT NULL,
  model_key text NOT NULL,
  model_sha256 text NOT NULL,
  model_bytes bigint NOT NULL,
  model_read_sha256 text,
  material text NOT NULL,
  quantity int NOT NULL,
  comment text,
  price numeric(12,2),
  currency text,
  operator text,
  redelivered boolean NOT NULL DEFAULT false,
  received_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX orders_by_order_id ON orders (order_id);
CREATE INDEX orders_by_status ON orders (status, id DESC);
CREATE INDEX orders_by_partner ON orders (partner, id DESC) WHERE partner IS NOT NULL;
CREATE INDEX orders_without_price ON orders (id) WHERE status = 'SUBMITTED' AND price IS NULL;

-- Written with the change it tells of, published in this order with a confirm.
CREATE TABLE outgoing_events (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id uuid NOT NULL,
  routing_key text NOT NULL,
  body bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  published_at timestamptz
);
CREATE INDEX outgoing_events_waiting ON outgoing_events (id) WHERE published_at IS NULL;

-- Webhooks to partners (Standard Webhooks, https://www.standardwebhooks.com): off until somebody sets a URL.
CREATE TABLE webhook (
  partner text PRIMARY KEY REFERENCES partner,
  url text NOT NULL,
  -- What messages are signed with, base64, the newest first: two while a partner changes over.
  secrets text[] NOT NULL CONSTRAINT one_or_two_secrets CHECK (cardinality(secrets) BETWEEN 1 AND 2),
  disabled_at timestamptz,
  disabled_why text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

--   open -> delivered | dead     dead, delivered -> open   (a replay, by a person)
CREATE TABLE webhook_message (
  -- The order of the messages of an order.
  seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  -- Stays the same over every retry and replay: by it the partner knows what it has had.
  id text NOT NULL UNIQUE DEFAULT 'msg_' || replace(gen_random_uuid()::text, '-', ''),
  partner text NOT NULL REFERENCES partner,
  order_id uuid NOT NULL REFERENCES partner_order,
  body text NOT NULL,
  state text NOT NULL DEFAULT 'open' CONSTRAINT state_is_known CHECK (state IN ('open', 'delivered', 'dead')),
  attempts int NOT NULL DEFAULT 0,
  next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_error text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  delivered_at timestamptz
);
CREATE INDEX webhook_message_open ON webhook_message (order_id, seq) WHERE state = 'open';
CREATE INDEX webhook_message_due ON webhook_message (next_attempt_at) WHERE state = 'open';
CREATE INDEX webhook_message_by_partner ON webhook_message (partner, created_at);

DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'strangler_partner_webhooks') THEN
    CREATE ROLE strangler_partner_webhooks NOLOGIN;
  END IF;
END $$;
GRANT SELECT (partner, disabled_at) ON webhook TO strangler_partner_feed;
GRANT INSERT ON webhook_message TO strangler_partner_feed;
GRANT SELECT, UPDATE ON webhook, webhook_message TO strangler_partner_webhooks;
GRANT SELECT, INSERT, UPDATE, DELETE ON webhook TO strangler_operator;
GRANT SELECT, UPDATE ON webhook_message TO strangler_operator;

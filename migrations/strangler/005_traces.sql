-- The trace of an order.

-- The W3C trace context of the order's submit, as the front door passed it on; NULL where none was seen: then the trace id is
-- derived from the order's id.
ALTER TABLE order_ledger ADD COLUMN traceparent text CONSTRAINT traceparent_length CHECK (length(traceparent) <= 55);

-- From the front door to the relay, past the Shop, which carries no header. Taken into the ledger with the order, and of no use
-- after that: `watch` deletes what is older than an hour, also what named no order.
CREATE TABLE submit_trace (
  order_id text PRIMARY KEY CONSTRAINT order_id_length CHECK (length(order_id) BETWEEN 1 AND 500),
  traceparent text NOT NULL CONSTRAINT traceparent_length CHECK (length(traceparent) <= 55),
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX submit_trace_by_time ON submit_trace (at);

GRANT SELECT, INSERT, UPDATE ON submit_trace TO strangler_proxy;
GRANT SELECT ON submit_trace TO strangler_relay, strangler_bridge, strangler_operator;
GRANT SELECT, DELETE ON submit_trace TO strangler_watch;
GRANT SELECT ON parity_count TO strangler_watch;
GRANT SELECT (gen, traceparent) ON order_ledger TO strangler_applier;

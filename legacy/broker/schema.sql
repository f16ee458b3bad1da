-- The embedded broker: AMQP's topic exchanges and durable queues as tables, for an estate without RabbitMQ.
-- Protocol (every client, legacy or ours, speaks exactly these functions; one database, schema `amq`):
--   amq.publish_batch(exchange[], key[], body[], properties[])  -> routed count per message; the commit is the publisher confirm,
--                                                                0 means unroutable (AMQP's basic.return under `mandatory`)
--   amq.next_consumer()                                         -> a consumer number; its owner must hold
--                                                                pg_advisory_lock(43, number) on a session for as long as it lives
--   amq.consume(queue, consumer, limit)                         -> deliveries in queue order, marked unacknowledged;
--                                                                what a dead consumer held comes back first, `redelivered`
--   amq.ack(consumer, id[]) / amq.requeue(consumer, id[])       -> how many of them were still held by that consumer
--   NOTIFY amq, '<queue>'                                       -> a message may be waiting
-- The default exchange '' routes to the queue named by the key, as in AMQP 0-9-1.
CREATE SCHEMA IF NOT EXISTS amq;

CREATE TABLE IF NOT EXISTS amq.exchange (name text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS amq.queue (name text PRIMARY KEY);
CREATE TABLE IF NOT EXISTS amq.binding (
  exchange text NOT NULL REFERENCES amq.exchange ON DELETE CASCADE,
  queue text NOT NULL REFERENCES amq.queue ON DELETE CASCADE,
  pattern text NOT NULL,
  PRIMARY KEY (exchange, queue, pattern)
);
CREATE TABLE IF NOT EXISTS amq.message (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue text NOT NULL REFERENCES amq.queue ON DELETE CASCADE,
  exchange text NOT NULL,
  routing_key text NOT NULL,
  body bytea NOT NULL,
  properties jsonb NOT NULL,
  redelivered boolean NOT NULL DEFAULT false,
  consumer int,
  enqueued_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX IF NOT EXISTS message_ready ON amq.message (queue, id) WHERE consumer IS NULL;
CREATE INDEX IF NOT EXISTS message_unacked ON amq.message (queue, consumer) WHERE consumer IS NOT NULL;
CREATE SEQUENCE IF NOT EXISTS amq.consumer_number AS int CYCLE;

CREATE OR REPLACE FUNCTION amq.topic_matches(pattern text, key text) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
  SELECT pattern = '#' OR pattern = key OR (pattern ~ '[*#]' AND ('.' || key) ~ ('^' ||
    replace(replace(regexp_replace('.' || pattern, '([.+?^$(){}|\[\]\\])', '\\\1', 'g'),
      '\.#', '(\.[^.]+)*'), '\.*', '\.[^.]+') || '$'))
$$;

CREATE OR REPLACE FUNCTION amq.publish_batch(exchanges text[], keys text[], bodies bytea[], props jsonb[])
RETURNS int[] LANGUAGE plpgsql AS $$
DECLARE
  counts int[];
  touched text;
BEGIN
  WITH input AS (
    SELECT * FROM unnest(exchanges, keys, bodies, props) WITH ORDINALITY AS i(exchange, key, body, properties, n)
  ), routed AS (
    SELECT DISTINCT i.n, b.queue FROM input i JOIN amq.binding b ON b.exchange = i.exchange AND amq.topic_matches(b.pattern, i.key)
    UNION
    SELECT i.n, q.name FROM input i JOIN amq.queue q ON i.exchange = '' AND q.name = i.key
  ), stored AS (
    INSERT INTO amq.message (queue, exchange, routing_key, body, properties)
    SELECT r.queue, i.exchange, i.key, i.body, i.properties FROM routed r JOIN input i USING (n) ORDER BY i.n, r.queue
    RETURNING queue
  ), woken AS (
    SELECT pg_notify('amq', queue) FROM (SELECT DISTINCT queue FROM stored) s
  )
  SELECT array_agg((SELECT count(*)::int FROM routed r WHERE r.n = i.n) ORDER BY i.n), (SELECT count(*)::text FROM woken)
  INTO counts, touched FROM input i;
  RETURN coalesce(counts, '{}');
END $$;

CREATE OR REPLACE FUNCTION amq.next_consumer() RETURNS int LANGUAGE sql AS $$
  SELECT nextval('amq.consumer_number')::int
$$;

CREATE OR REPLACE FUNCTION amq.consume(from_queue text, me int, max_count int)
RETURNS SETOF amq.message LANGUAGE plpgsql AS $$
BEGIN
  UPDATE amq.message m SET consumer = NULL, redelivered = true
  WHERE m.queue = from_queue AND m.consumer IS NOT NULL AND m.consumer <> me AND m.consumer IN (
    SELECT DISTINCT h.consumer FROM amq.message h
    WHERE h.queue = from_queue AND h.consumer IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM pg_locks l WHERE l.locktype = 'advisory' AND l.classid = 43 AND l.objid = h.consumer::oid AND l.granted
        AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())));
  RETURN QUERY
  WITH taken AS (
    UPDATE amq.message m SET consumer = me WHERE m.id IN (
      SELECT r.id FROM amq.message r WHERE r.queue = from_queue AND r.consumer IS NULL
      ORDER BY r.id LIMIT max_count FOR UPDATE SKIP LOCKED)
    RETURNING m.*)
  SELECT * FROM taken ORDER BY id;
END $$;

CREATE OR REPLACE FUNCTION amq.ack(me int, ids bigint[]) RETURNS bigint LANGUAGE sql AS $$
  WITH gone AS (DELETE FROM amq.message WHERE id = ANY(ids) AND consumer = me RETURNING 1) SELECT count(*) FROM gone
$$;

CREATE OR REPLACE FUNCTION amq.requeue(me int, ids bigint[]) RETURNS bigint LANGUAGE sql AS $$
  WITH back AS (UPDATE amq.message SET consumer = NULL, redelivered = true WHERE id = ANY(ids) AND consumer = me RETURNING queue)
  SELECT count(*) FROM (SELECT queue, pg_notify('amq', queue) FROM back) b
$$;

-- Where the legacy ends meet. The toolkit's own exchanges and queues are not the legacy's business.
INSERT INTO amq.exchange VALUES ('crm.orders'), ('mes.events') ON CONFLICT DO NOTHING;
INSERT INTO amq.queue VALUES ('mes.orders'), ('crm.events') ON CONFLICT DO NOTHING;
INSERT INTO amq.binding VALUES
  ('crm.orders', 'mes.orders', 'order.submitted'), ('crm.orders', 'mes.orders', 'order.approved'), ('crm.orders', 'mes.orders', 'order.closed'),
  ('mes.events', 'crm.events', 'order.created'), ('mes.events', 'crm.events', 'order.price_calculated'), ('mes.events', 'crm.events', 'order.status_changed')
ON CONFLICT DO NOTHING;

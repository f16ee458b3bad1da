-- Phase 2 in the ledger: the path of an order's statuses, the status inbox, and what the shadow has compared.
CREATE SCHEMA strangler;

-- What is in force at the bridge on MES -> CRM. Written like `strangler.route` of the Shop DB; no row means `legacy`.
CREATE TABLE strangler.route (
  phase text PRIMARY KEY,
  epoch int NOT NULL,
  share int NOT NULL CONSTRAINT share_in_ten_thousandths CHECK (share BETWEEN 0 AND 10000),
  seed int NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- The same function as bucketOf in contracts/path-share.ts.
CREATE FUNCTION strangler.bucket(key text, seed int) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ((('x' || encode(substr(sha256(convert_to(seed::text || ':' || key, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint) % 10000)::int
$$;

-- Decided at the order's first status, stored for ever. NULL: no status yet.
ALTER TABLE order_ledger
  ADD COLUMN status_path text CONSTRAINT status_path_is_known CHECK (status_path IN ('legacy', 'direct')),
  ADD COLUMN status_epoch int,
  ADD COLUMN status_reason jsonb;

-- diverted: it went into the status inbox and not to CRM.
ALTER TABLE bridge_inbox
  DROP CONSTRAINT state_is_known,
  ADD CONSTRAINT state_is_known CHECK (state IN ('received', 'held', 'forwarded', 'suppressed', 'diverted', 'parked')),
  ADD COLUMN compared_at timestamptz;
-- An index each: what one comparison waits for must not stand in the way of the other.
CREATE INDEX bridge_inbox_orders_to_compare ON bridge_inbox (id)
  WHERE compared_at IS NULL AND state = 'forwarded' AND order_id IS NOT NULL AND routing_key = 'order.submitted';
CREATE INDEX bridge_inbox_statuses_to_compare ON bridge_inbox (id)
  WHERE compared_at IS NULL AND state = 'forwarded' AND order_id IS NOT NULL
    AND routing_key IN ('order.price_calculated', 'order.status_changed');

-- The events of the MES whose orders are pinned `direct`. A row is inserted in the transaction that settles its bridge_inbox
-- row, and has its id: the order of arrival in one queue, and so the order of events. No rule uses a timestamp.
--   open -> applied | superseded | backward     waiting: tried again by itself    parked: a person must look
--   open, waiting, parked -> dropped            (by a person)
CREATE TABLE status_inbox (
  id bigint PRIMARY KEY,
  order_id text NOT NULL,
  -- As the MES wrote it; NULL where it has none.
  status text,
  price text,
  currency text,
  source_at timestamptz,
  received_at timestamptz NOT NULL,
  state text NOT NULL DEFAULT 'open' CONSTRAINT state_is_known
    CHECK (state IN ('open', 'waiting', 'parked', 'applied', 'superseded', 'backward', 'dropped')),
  reason text,
  -- A person has accepted it: it is applied whatever the rules say.
  accepted boolean NOT NULL DEFAULT false,
  who text,
  tries int NOT NULL DEFAULT 0,
  next_try_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- When an applier first took it in hand: until then it queued.
  tried_at timestamptz,
  settled_at timestamptz,
  CONSTRAINT settled_has_a_time CHECK (state IN ('open', 'waiting', 'parked') OR settled_at IS NOT NULL)
) WITH (fillfactor = 70);
CREATE INDEX status_inbox_to_apply ON status_inbox (order_id, id) WHERE state IN ('open', 'waiting');
CREATE INDEX status_inbox_parked ON status_inbox (id) WHERE state = 'parked';

-- The shadow: what we would have done against what was really done, counted per phase and day (of UTC); only differences are
-- kept. Counted are messages; one differs once, in however many fields.
CREATE TABLE parity_count (
  phase text NOT NULL,
  day date NOT NULL,
  compared bigint NOT NULL,
  differing bigint NOT NULL,
  PRIMARY KEY (phase, day)
);
CREATE TABLE parity_difference (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  phase text NOT NULL,
  -- The message of the bridge that it is about; or, of a write of CRM that no message asked for, that write.
  inbox_id bigint,
  crm_write_id bigint,
  order_id text NOT NULL,
  field text NOT NULL,
  -- NULL: there is none.
  ours text,
  theirs text,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT of_a_message_or_of_a_write CHECK (num_nonnulls(inbox_id, crm_write_id) = 1),
  CONSTRAINT one_difference_per_field UNIQUE (inbox_id, field),
  CONSTRAINT one_difference_per_write UNIQUE (crm_write_id)
);
CREATE INDEX parity_difference_by_field ON parity_difference (phase, field, id);
-- Append only: of a field the latest row counts, until its time.
CREATE TABLE parity_accepted (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  phase text NOT NULL,
  field text NOT NULL,
  until timestamptz NOT NULL,
  why text NOT NULL,
  who text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['strangler_applier', 'strangler_shadow'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END $$;
GRANT USAGE ON SCHEMA strangler TO strangler_bridge, strangler_applier, strangler_shadow, strangler_watch, strangler_operator;
GRANT SELECT ON strangler.route TO strangler_bridge, strangler_applier, strangler_watch;
GRANT SELECT, INSERT, UPDATE ON strangler.route TO strangler_operator;
GRANT SELECT, INSERT ON status_inbox TO strangler_bridge;
GRANT SELECT, UPDATE ON status_inbox TO strangler_applier;
GRANT SELECT (order_id, status_path, status_epoch) ON order_ledger TO strangler_applier;
GRANT INSERT ON order_event TO strangler_applier;
GRANT SELECT, INSERT, UPDATE ON status_inbox TO strangler_operator;
-- `reconcile --redrive` gives a status that never arrived the next id of arrival.
GRANT USAGE ON SEQUENCE bridge_inbox_id_seq TO strangler_operator;
GRANT SELECT ON status_inbox TO strangler_watch;
GRANT SELECT, UPDATE (compared_at) ON bridge_inbox TO strangler_shadow;
GRANT SELECT ON order_ledger, bridge TO strangler_shadow;
GRANT SELECT, INSERT, UPDATE ON parity_count TO strangler_shadow;
GRANT SELECT, INSERT, DELETE ON parity_difference TO strangler_shadow;
GRANT SELECT ON parity_count, parity_difference TO strangler_operator;
GRANT SELECT, INSERT ON parity_accepted TO strangler_operator;

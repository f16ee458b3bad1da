-- The ledger: the truth of transport. One row per order, for ever; delivery/README.md draws its states.
CREATE TABLE order_ledger (
  order_id text PRIMARY KEY CONSTRAINT order_id_length CHECK (length(order_id) BETWEEN 1 AND 500),
  origin text NOT NULL,
  source_ref text NOT NULL,
  path text NOT NULL CONSTRAINT path_is_known CHECK (path IN ('legacy', 'direct')),
  path_epoch int NOT NULL,
  path_reason jsonb NOT NULL,
  state text NOT NULL CONSTRAINT state_is_known
    CHECK (state IN ('accepted', 'sending', 'in_doubt', 'delivered', 'dead', 'cancelled')),
  gen int NOT NULL DEFAULT 0,
  attempts int NOT NULL DEFAULT 0,
  -- The courier that holds it, and the broker connection it sends through: their deaths are certified separately.
  owner_id int,
  sender text,
  routing_key text NOT NULL,
  body bytea NOT NULL,
  body_sha256 bytea NOT NULL,
  model_sha256 bytea,
  -- Times are this database's clock. submitted_at is the source's commit, carried over as an age, so no skew enters.
  submitted_at timestamptz NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  rung_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  next_attempt_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  sending_at timestamptz,
  doubt_at timestamptz,
  delivered_at timestamptz,
  dead_reason jsonb,
  CONSTRAINT one_order_per_source_reference UNIQUE (origin, source_ref),
  CONSTRAINT sending_has_an_owner CHECK (state <> 'sending' OR (owner_id IS NOT NULL AND path = 'direct')),
  CONSTRAINT delivered_has_a_time CHECK (state <> 'delivered' OR delivered_at IS NOT NULL)
);
CREATE INDEX ledger_to_deliver ON order_ledger (accepted_at) WHERE state = 'accepted' AND path = 'direct';
CREATE INDEX ledger_not_terminal ON order_ledger (state, accepted_at) WHERE state NOT IN ('delivered', 'dead', 'cancelled');
CREATE INDEX ledger_by_time ON order_ledger (accepted_at);

-- What happened to an order besides the times in its ledger row. Append only, a partition a day.
CREATE TABLE order_event (
  order_id text NOT NULL,
  seq bigint GENERATED ALWAYS AS IDENTITY,
  hop text NOT NULL,
  kind text NOT NULL CONSTRAINT kind_is_known CHECK (kind IN ('pass', 'note')),
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  left_at timestamptz,
  actor text NOT NULL,
  detail jsonb NOT NULL DEFAULT '{}'
) PARTITION BY RANGE (at);
CREATE TABLE order_event_rest PARTITION OF order_event DEFAULT;
CREATE INDEX order_event_by_order ON order_event (order_id, seq);
CREATE INDEX order_event_by_time ON order_event (at);

-- Makes the partitions of the coming days; safe to call at any time. A day whose rows already lie in the rest stays there.
CREATE FUNCTION prepare_event_partitions(days int) RETURNS int LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
  day date;
  made int := 0;
BEGIN
  FOR day IN SELECT current_date + n FROM generate_series(1, days) n LOOP
    IF to_regclass(format('order_event_%s', to_char(day, 'YYYYMMDD'))) IS NULL THEN
      EXECUTE format('CREATE TABLE order_event_%s PARTITION OF order_event FOR VALUES FROM (%L) TO (%L)', to_char(day, 'YYYYMMDD'), day, day + 1);
      made := made + 1;
    END IF;
  END LOOP;
  RETURN made;
END $$;

-- Every message that passed a bridge. The row commits before the message is acknowledged.
CREATE TABLE bridge_inbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  queue text NOT NULL,
  msg_key bytea NOT NULL,
  order_id text,
  routing_key text NOT NULL,
  exchange text NOT NULL,
  status text,
  -- received: not settled yet. held: waits for evidence before it may be forwarded. parked: a person must look.
  state text NOT NULL CONSTRAINT state_is_known CHECK (state IN ('received', 'held', 'forwarded', 'suppressed', 'parked')),
  reason text,
  body bytea NOT NULL,
  properties jsonb NOT NULL,
  redelivered boolean NOT NULL,
  source_at timestamptz,
  received_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  settled_at timestamptz,
  CONSTRAINT one_row_per_message UNIQUE (queue, msg_key)
);
CREATE INDEX bridge_inbox_by_order ON bridge_inbox (order_id, id);
CREATE INDEX bridge_inbox_open ON bridge_inbox (queue, id) WHERE state IN ('received', 'held', 'parked');
CREATE INDEX bridge_inbox_by_time ON bridge_inbox (received_at);

-- The bridges themselves, one row per legacy queue. Two topology changes in a life: in and out.
CREATE TABLE bridge (
  queue text PRIMARY KEY,
  state text NOT NULL CONSTRAINT state_is_known CHECK (state IN ('absent', 'inserting', 'inserted', 'removing')),
  -- Messages received up to this time may also be in the legacy queue: the broker was being re-bound.
  ambiguous_until timestamptz,
  topology_changes int NOT NULL DEFAULT 0,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  who text NOT NULL
);

-- A courier is alive exactly as long as it holds pg_advisory_lock(42, owner_id) on a session of this database.
CREATE TABLE courier_owner (
  owner_id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  host text NOT NULL,
  pid int NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A recorded change of an order's path, the only kind there is.
CREATE TABLE handover (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id text NOT NULL,
  from_path text NOT NULL,
  to_path text NOT NULL,
  epoch int NOT NULL,
  who text NOT NULL,
  why text NOT NULL,
  evidence jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- What is in force, and how it came to be. The share is in ten-thousandths.
CREATE TABLE phase (
  phase text PRIMARY KEY,
  epoch int NOT NULL,
  share int NOT NULL CONSTRAINT share_in_ten_thousandths CHECK (share BETWEEN 0 AND 10000),
  seed int NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE phase_journal (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  phase text NOT NULL,
  epoch int NOT NULL,
  step text NOT NULL CONSTRAINT step_is_known CHECK (step IN ('intended', 'in force', 'complete', 'abandoned')),
  verb text NOT NULL,
  share int NOT NULL,
  who text NOT NULL,
  why text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  -- One run per epoch reaches each step; a second runner collides here instead of doing it twice.
  CONSTRAINT one_step_per_epoch UNIQUE (phase, epoch, step)
);

DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['strangler_proxy', 'strangler_relay', 'strangler_bridge', 'strangler_courier', 'strangler_watch', 'strangler_operator'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END $$;
GRANT INSERT ON order_event TO strangler_proxy, strangler_relay, strangler_bridge, strangler_courier, strangler_watch, strangler_operator;
GRANT SELECT, INSERT ON order_ledger TO strangler_relay;
GRANT SELECT, INSERT, UPDATE ON order_ledger TO strangler_bridge;
GRANT SELECT, UPDATE ON order_ledger TO strangler_courier, strangler_watch, strangler_operator;
GRANT SELECT, INSERT, UPDATE ON bridge_inbox TO strangler_bridge;
GRANT SELECT ON bridge TO strangler_bridge;
GRANT SELECT ON bridge_inbox, bridge, courier_owner, order_event TO strangler_watch;
GRANT SELECT, INSERT ON courier_owner TO strangler_courier;
GRANT EXECUTE ON FUNCTION prepare_event_partitions(int) TO strangler_watch;
GRANT SELECT ON bridge_inbox, order_event, courier_owner TO strangler_operator;
GRANT UPDATE (state, reason, settled_at) ON bridge_inbox TO strangler_operator;
GRANT SELECT, INSERT, UPDATE ON bridge, handover, phase, phase_journal TO strangler_operator;
GRANT SELECT ON phase TO strangler_proxy, strangler_relay, strangler_bridge, strangler_courier, strangler_watch;

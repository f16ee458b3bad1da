-- Phases move on evidence: pins, wishes, gates, replicas, hand-overs, and what people did.

-- pin: the phase stays where it is whatever is wished, until `resume`. NULL: it follows the wish.
ALTER TABLE phase
  ADD COLUMN pin text CONSTRAINT pin_is_known CHECK (pin IN ('hold', 'rollback', 'kill')),
  ADD COLUMN pinned_by text,
  ADD COLUMN pinned_why text,
  ADD COLUMN pinned_at timestamptz,
  ADD CONSTRAINT pin_has_a_reason CHECK (pin IS NULL OR num_nonnulls(pinned_by, pinned_why, pinned_at) = 3);

-- The tokens of a counted step, see strangler.route_token of the Shop DB.
ALTER TABLE strangler.route ADD COLUMN counted boolean NOT NULL DEFAULT false;
CREATE TABLE strangler.route_token (
  phase text NOT NULL,
  epoch int NOT NULL,
  n int NOT NULL,
  PRIMARY KEY (phase, epoch, n)
);

-- A rollback goes on after the flip: drained, handed over, verified. detail: tokens, counts, the receipt.
ALTER TABLE phase_journal
  DROP CONSTRAINT step_is_known,
  ADD CONSTRAINT step_is_known
    CHECK (step IN ('intended', 'in force', 'complete', 'abandoned', 'drained', 'handed over', 'verified')),
  ADD COLUMN detail jsonb NOT NULL DEFAULT '{}';

-- What people want. Mirrored from Unleash by the reconciler; without a flag server written by the commands.
CREATE TABLE wish (
  phase text PRIMARY KEY,
  -- NULL: unknown, and reason says why. Unknown is not 0 %.
  share int CONSTRAINT share_in_ten_thousandths CHECK (share BETWEEN 0 AND 10000),
  reason text,
  source text NOT NULL CONSTRAINT source_is_known CHECK (source IN ('unleash', 'command')),
  who text NOT NULL,
  why text NOT NULL,
  -- When the share was last what it is; when it was last read.
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  read_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT unknown_has_a_reason CHECK (share IS NOT NULL OR reason IS NOT NULL)
);

-- The latest verdict of every gate. A row that is not renewed is stale, and stale is INCONCLUSIVE.
CREATE TABLE gate_result (
  phase text NOT NULL,
  gate text NOT NULL,
  verdict text NOT NULL CONSTRAINT verdict_is_known CHECK (verdict IN ('PASS', 'FAIL', 'INCONCLUSIVE')),
  measured text NOT NULL,
  needed text NOT NULL,
  says text NOT NULL,
  -- The orders it is about, the first of them.
  order_ids text[] NOT NULL DEFAULT '{}',
  -- Where the value comes from, and what unblocks it.
  source text NOT NULL,
  unblock text,
  since timestamptz NOT NULL DEFAULT clock_timestamp(),
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (phase, gate)
);

-- Approvals of a step, by people; void once evidence broke, see `strangler approve`.
CREATE TABLE approval (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  phase text NOT NULL,
  share int NOT NULL,
  -- Of the epoch that it was given at: a flip ends it.
  epoch int NOT NULL,
  who text NOT NULL,
  why text NOT NULL,
  evidence_sha256 text NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at timestamptz NOT NULL,
  void_reason text,
  CONSTRAINT one_approval_each UNIQUE (phase, epoch, share, who)
);

-- Everything that somebody did or that happened to a phase, append only: the audit and the timeline.
CREATE TABLE phase_event (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  phase text,
  kind text NOT NULL,
  who text NOT NULL,
  says text NOT NULL,
  detail jsonb NOT NULL DEFAULT '{}',
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX phase_event_by_time ON phase_event (at);

-- Every process that works on what a phase moves. epochs: {"orders-direct": 4, ...}, what it has acknowledged; silent for
-- longer than its lease, it has stopped by itself.
CREATE TABLE replica (
  id uuid PRIMARY KEY,
  kind text NOT NULL,
  host text NOT NULL,
  pid int NOT NULL,
  epochs jsonb NOT NULL,
  lease_ms int NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- A hand-over is recorded before the Shop DB gives the order back; finished_at: it has.
ALTER TABLE handover
  ADD COLUMN phase text NOT NULL DEFAULT 'orders-direct',
  ADD COLUMN finished_at timestamptz,
  ADD CONSTRAINT one_hand_over_per_epoch UNIQUE (order_id, epoch, to_path);
ALTER TABLE handover ALTER COLUMN phase DROP DEFAULT;
CREATE INDEX handover_unfinished ON handover (id) WHERE finished_at IS NULL;

GRANT SELECT, INSERT, UPDATE, DELETE ON replica
  TO strangler_proxy, strangler_relay, strangler_bridge, strangler_courier, strangler_watch, strangler_applier, strangler_shadow, strangler_operator;
GRANT SELECT ON phase TO strangler_applier, strangler_shadow;
GRANT SELECT, INSERT, DELETE, UPDATE ON strangler.route_token TO strangler_bridge, strangler_operator;
-- A hand-over of an order that no relay has brought yet makes its row, so that the relay's comes too late.
GRANT INSERT ON order_ledger TO strangler_operator;
GRANT SELECT, INSERT, UPDATE ON wish, gate_result, approval TO strangler_operator;
GRANT SELECT, INSERT ON phase_event TO strangler_operator;
GRANT SELECT ON phase, wish, gate_result, replica, handover TO strangler_watch;

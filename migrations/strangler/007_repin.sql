-- A repin: the statuses of one order change their path, recorded like the hand-over of an order.

-- The phases have epochs of their own, so one order may have two hand-overs of the same number.
ALTER TABLE handover
  DROP CONSTRAINT one_hand_over_per_epoch,
  ADD CONSTRAINT one_hand_over_per_epoch UNIQUE (order_id, epoch, to_path, phase);
-- The bridge asks for each status of a legacy order whether the Shop DB has let CRM in yet.
CREATE INDEX handover_unfinished_by_order ON handover (order_id) WHERE finished_at IS NULL;
GRANT SELECT ON handover TO strangler_bridge;

-- handed over: not applied by us, CRM gets it; its row at the bridge says when.
ALTER TABLE status_inbox
  DROP CONSTRAINT state_is_known,
  ADD CONSTRAINT state_is_known
    CHECK (state IN ('open', 'waiting', 'parked', 'applied', 'superseded', 'backward', 'dropped', 'handed over'));

-- Orders leave the outbox at a pace, and partners take turns: the flood of one is not in front of another's order.
ALTER TABLE outbox ADD COLUMN partner text;
UPDATE outbox b SET partner = o.partner FROM partner_order o WHERE o.id = b.order_id;
ALTER TABLE outbox ALTER COLUMN partner SET NOT NULL;
CREATE INDEX outbox_turns ON outbox (partner, id) WHERE relayed_at IS NULL;
-- Whether the relay goes on is asked for by its last order, often, and of a table that grows for ever.
CREATE INDEX outbox_last_relayed ON outbox (relayed_at) WHERE relayed_at IS NOT NULL;
GRANT SELECT (id) ON partner TO strangler_partner_relay;
GRANT SELECT (partner, relayed_at) ON outbox TO strangler_console;

-- As in 004, with its settings of 006, but for the partner of the outbox row.
DO $$
DECLARE
  made text := pg_get_functiondef('accept_order'::regproc);
  wanted text := replace(made, 'INSERT INTO outbox (order_id) VALUES (new_id)', 'INSERT INTO outbox (order_id, partner) VALUES (new_id, of_partner)');
BEGIN
  IF wanted = made THEN
    RAISE EXCEPTION 'accept_order is not as 004 made it';
  END IF;
  EXECUTE wanted;
END $$;

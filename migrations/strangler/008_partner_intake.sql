-- Phase 3 in the ledger: what passed the bridges about orders of partners, for the intake's own database.

-- A row is inserted in the transaction that settles its bridge_inbox row, and has its id: the order of arrival.
CREATE TABLE partner_event (
  id bigint PRIMARY KEY,
  order_id text NOT NULL,
  applied_at timestamptz
);
CREATE INDEX partner_event_by_order ON partner_event (order_id, id);
CREATE INDEX partner_event_to_apply ON partner_event (id) WHERE applied_at IS NULL;

-- What the MES tells CRM of an order that the intake has forwarded, for the shadow.
CREATE INDEX bridge_inbox_created_to_compare ON bridge_inbox (id)
  WHERE compared_at IS NULL AND state = 'forwarded' AND order_id IS NOT NULL AND routing_key = 'order.created';

DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['strangler_partner_relay', 'strangler_partner_feed'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END $$;
GRANT SELECT, INSERT ON partner_event TO strangler_bridge;
GRANT SELECT, INSERT ON order_ledger TO strangler_partner_relay;
GRANT INSERT ON order_event TO strangler_partner_relay;
GRANT SELECT ON submit_trace TO strangler_partner_relay;
GRANT SELECT, UPDATE (applied_at) ON partner_event TO strangler_partner_feed;
GRANT SELECT ON bridge_inbox TO strangler_partner_feed;
GRANT SELECT, INSERT, UPDATE, DELETE ON replica TO strangler_partner_relay, strangler_partner_feed;
GRANT SELECT ON phase TO strangler_partner_relay, strangler_partner_feed;
GRANT SELECT ON partner_event TO strangler_operator, strangler_watch;

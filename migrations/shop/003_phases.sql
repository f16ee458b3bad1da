-- Exact counts and recorded hand-overs of phase 1 in the Shop DB.

-- A counted step: each token admits one order whatever its bucket says. A row each, so that a customer's open transaction holds
-- its own token and nothing that a flip or another customer waits for. Those of another epoch than the route's count no more.
ALTER TABLE strangler.route ADD COLUMN counted boolean NOT NULL DEFAULT false;
CREATE TABLE strangler.route_token (
  phase text NOT NULL,
  epoch int NOT NULL,
  n int NOT NULL,
  PRIMARY KEY (phase, epoch, n)
);

-- As before, and: an order that the share leaves to CRM takes a token while there is one. One that a transaction has taken and
-- gives back when it fails is free for the next.
CREATE OR REPLACE FUNCTION strangler.capture_submit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  force record;
  bucket int;
  chosen text;
  rule text;
  token int;
BEGIN
  -- Before the route is read: a flip is complete once pg_snapshot_xmin has passed a transaction id taken after its commit,
  -- and that holds only for transactions that had their own id when they read.
  PERFORM pg_current_xact_id();

  SELECT o.path INTO chosen FROM strangler.outbox o WHERE o.order_id = NEW.id;
  IF chosen IS NULL THEN
    -- A plain read: a row lock would let submits starve the flip.
    SELECT r.epoch, r.share, r.seed, r.counted INTO force FROM strangler.route r WHERE r.phase = 'orders-direct';
    IF force.epoch IS NULL THEN
      chosen := 'legacy';
      rule := 'no route';
    ELSE
      bucket := strangler.bucket(NEW.id::text, force.seed);
      chosen := CASE WHEN bucket < force.share THEN 'direct' ELSE 'legacy' END;
      rule := 'share';
      IF chosen = 'legacy' AND force.counted THEN
        BEGIN
          SELECT t.n INTO token FROM strangler.route_token t WHERE t.phase = 'orders-direct' AND t.epoch = force.epoch
          ORDER BY t.n LIMIT 1 FOR UPDATE SKIP LOCKED;
          DELETE FROM strangler.route_token t WHERE t.phase = 'orders-direct' AND t.epoch = force.epoch AND t.n = token;
          IF FOUND THEN
            chosen := 'direct';
            rule := 'token';
          END IF;
        EXCEPTION WHEN serialization_failure THEN
          -- A customer's REPEATABLE READ transaction that came second: its order goes by the share.
          NULL;
        END;
      END IF;
    END IF;
    INSERT INTO strangler.outbox (order_id, path, epoch, reason, row)
    VALUES (NEW.id, chosen, coalesce(force.epoch, 0),
      jsonb_build_object('rule', rule, 'share', force.share, 'bucket', bucket),
      to_jsonb(NEW));
  END IF;
  IF chosen = 'direct' THEN
    -- The claim: CRM looks for SUBMITTED with crm_sent_at IS NULL, so there is no instant at which it finds this order.
    NEW.crm_sent_at := coalesce(NEW.crm_sent_at, clock_timestamp());
  END IF;
  RETURN NEW;
END $$;

GRANT SELECT, INSERT, DELETE, UPDATE ON strangler.route_token TO strangler_operator;
-- A hand-over makes the ledger row of an order that no relay has brought, and that has the client's points in it.
GRANT SELECT (id, loyalty_points) ON public.clients TO strangler_operator;
-- A hand-over changes the stored path, and gives the order back to CRM.
GRANT UPDATE (path, epoch, reason) ON strangler.outbox TO strangler_operator;

-- Phase 1 in the Shop DB. Additive: a schema of ours and one trigger; no column and no code of the Shop changes.
-- Removing it: DROP TRIGGER strangler_capture ON public.orders; DROP SCHEMA strangler CASCADE.
CREATE SCHEMA strangler;

-- What is in force, one row per phase. Written by compare-and-swap on the epoch; no row means `legacy`.
CREATE TABLE strangler.route (
  phase text PRIMARY KEY,
  epoch int NOT NULL,
  share int NOT NULL CONSTRAINT share_in_ten_thousandths CHECK (share BETWEEN 0 AND 10000),
  seed int NOT NULL,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Every submitted order, on either path, from the transaction of the customer's submit.
CREATE TABLE strangler.outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id uuid NOT NULL CONSTRAINT one_submit_per_order UNIQUE,
  path text NOT NULL CONSTRAINT path_is_known CHECK (path IN ('legacy', 'direct')),
  epoch int NOT NULL,
  reason jsonb NOT NULL,
  row jsonb NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  relayed_at timestamptz
);
-- The relay asks for this state; a cursor over ids would skip rows that commit late.
CREATE INDEX outbox_to_relay ON strangler.outbox (id) WHERE relayed_at IS NULL;

-- The same function as bucketOf in contracts/path-share.ts: sha256 of "<seed>:<key>", first four bytes, modulo 10 000.
CREATE FUNCTION strangler.bucket(key text, seed int) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ((('x' || encode(substr(sha256(convert_to(seed::text || ':' || key, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint) % 10000)::int
$$;

-- An error in here fails the customer's submit, so it does nothing but decide, claim and capture.
CREATE FUNCTION strangler.capture_submit() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  force record;
  bucket int;
  chosen text;
BEGIN
  -- Before the route is read: a flip is complete once pg_snapshot_xmin has passed a transaction id taken after its commit,
  -- and that holds only for transactions that had their own id when they read.
  PERFORM pg_current_xact_id();

  SELECT o.path INTO chosen FROM strangler.outbox o WHERE o.order_id = NEW.id;
  IF chosen IS NULL THEN
    -- A plain read: a row lock would let submits starve the flip.
    SELECT r.epoch, r.share, r.seed INTO force FROM strangler.route r WHERE r.phase = 'orders-direct';
    IF force.epoch IS NULL THEN
      chosen := 'legacy';
    ELSE
      bucket := strangler.bucket(NEW.id::text, force.seed);
      chosen := CASE WHEN bucket < force.share THEN 'direct' ELSE 'legacy' END;
    END IF;
    INSERT INTO strangler.outbox (order_id, path, epoch, reason, row)
    VALUES (NEW.id, chosen, coalesce(force.epoch, 0),
      jsonb_build_object('rule', CASE WHEN force.epoch IS NULL THEN 'no route' ELSE 'share' END, 'share', force.share, 'bucket', bucket),
      to_jsonb(NEW));
  END IF;
  IF chosen = 'direct' THEN
    -- The claim: CRM looks for SUBMITTED with crm_sent_at IS NULL, so there is no instant at which it finds this order.
    NEW.crm_sent_at := coalesce(NEW.crm_sent_at, clock_timestamp());
  END IF;
  RETURN NEW;
END $$;

-- Partner orders are in the MES already when CRM writes them here.
CREATE TRIGGER strangler_capture BEFORE INSERT OR UPDATE OF status ON public.orders
FOR EACH ROW WHEN (NEW.status = 'SUBMITTED' AND NEW.source = 'shop')
EXECUTE FUNCTION strangler.capture_submit();

REVOKE ALL ON FUNCTION strangler.capture_submit() FROM PUBLIC;

-- Least privilege: a group role per job; the deployment makes login roles that are members of them.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['strangler_relay', 'strangler_bridge', 'strangler_watch', 'strangler_operator'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END $$;
GRANT USAGE ON SCHEMA strangler TO strangler_relay, strangler_bridge, strangler_watch, strangler_operator;
GRANT SELECT, UPDATE (relayed_at) ON strangler.outbox TO strangler_relay;
GRANT SELECT (id, loyalty_points) ON public.clients TO strangler_relay, strangler_bridge, strangler_watch;
GRANT SELECT ON strangler.outbox TO strangler_bridge, strangler_watch;
GRANT SELECT ON strangler.outbox TO strangler_operator;
GRANT SELECT, INSERT, UPDATE ON strangler.route TO strangler_operator;
GRANT SELECT ON public.orders TO strangler_operator, strangler_watch;
-- `reconcile --redrive` gives an order that CRM lost back to CRM.
GRANT UPDATE (crm_sent_at) ON public.orders TO strangler_operator;

-- Phase 2 in the Shop DB: the fence against late writers, and the log of CRM's writes that the shadow compares with.
-- Removing it: DROP TRIGGER strangler_fence ON public.orders; the tables go with the schema.

-- One row per order whose statuses are ours, written in the transaction of its first status.
CREATE TABLE strangler.order_fence (
  order_id uuid PRIMARY KEY,
  epoch int NOT NULL,
  -- The last event, and the last one with a price, that is in the order's row. Both only rise.
  applied_id bigint NOT NULL,
  price_id bigint,
  -- What a person accepted against the rules, and is in the row: a crash may bring it again, long after.
  accepted_ids bigint[] NOT NULL DEFAULT '{}'
) WITH (fillfactor = 70);

-- Whose writes of statuses and prices are fenced off: the logins of CRM.
CREATE TABLE strangler.fenced_writer (role name PRIMARY KEY);
INSERT INTO strangler.fenced_writer VALUES ('crm');

-- What somebody else wrote to an order of ours. kept = false: the old value stayed. true: no login of CRM, so it went
-- through, and somebody should ask who that is.
CREATE TABLE strangler.late_writes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id uuid NOT NULL,
  col text NOT NULL,
  old text,
  new text,
  kept boolean NOT NULL,
  role name NOT NULL,
  app text,
  addr inet,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX late_writes_by_order ON strangler.late_writes (order_id, id);

-- A queue for the shadow: what CRM wrote of a status of the MES to an order that is not ours. Deleted once it is compared.
CREATE TABLE strangler.crm_writes (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id uuid NOT NULL,
  -- The row as it is after the write.
  status text NOT NULL,
  price text,
  currency text,
  -- The write changed price or currency.
  repriced boolean NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX crm_writes_by_order ON strangler.crm_writes (order_id, id);

-- An error in here fails the writer's statement, so it does nothing but compare and record.
CREATE FUNCTION strangler.fence_writes() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
DECLARE
  of_crm boolean;
  ours boolean;
  touched boolean := false;
BEGIN
  -- session_user is the login, whatever roles it has taken on since.
  IF pg_has_role(session_user, 'strangler_applier', 'MEMBER') THEN
    RETURN NEW;
  END IF;
  SELECT EXISTS (SELECT FROM strangler.fenced_writer f WHERE f.role = session_user),
         EXISTS (SELECT FROM strangler.order_fence f WHERE f.order_id = NEW.id)
  INTO of_crm, ours;
  IF NOT ours THEN
    IF of_crm AND NEW.status IN ('PRICE_CALCULATED', 'MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED', 'PACKAGING', 'SHIPPED') THEN
      INSERT INTO strangler.crm_writes (order_id, status, price, currency, repriced)
      VALUES (NEW.id, NEW.status, NEW.price::text, NEW.currency,
              NEW.price IS DISTINCT FROM OLD.price OR NEW.currency IS DISTINCT FROM OLD.currency);
    END IF;
    RETURN NEW;
  END IF;
  -- CRM's own transitions are its business, on every path.
  IF NEW.status IS DISTINCT FROM OLD.status AND NOT (of_crm AND NEW.status IN ('MANUFACTURING_APPROVED', 'CLOSED')) THEN
    INSERT INTO strangler.late_writes (order_id, col, old, new, kept, role, app, addr)
    VALUES (NEW.id, 'status', OLD.status, NEW.status, NOT of_crm, session_user, current_setting('application_name', true), inet_client_addr());
    IF of_crm THEN NEW.status := OLD.status; END IF;
    touched := true;
  END IF;
  IF NEW.price IS DISTINCT FROM OLD.price OR NEW.currency IS DISTINCT FROM OLD.currency THEN
    INSERT INTO strangler.late_writes (order_id, col, old, new, kept, role, app, addr)
    VALUES (NEW.id, 'price', concat_ws(' ', OLD.price::text, OLD.currency), concat_ws(' ', NEW.price::text, NEW.currency), NOT of_crm,
            session_user, current_setting('application_name', true), inet_client_addr());
    IF of_crm THEN
      NEW.price := OLD.price;
      NEW.currency := OLD.currency;
    END IF;
    touched := true;
  END IF;
  IF touched AND of_crm AND NEW.status IS NOT DISTINCT FROM OLD.status THEN NEW.updated_at := OLD.updated_at; END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION strangler.fence_writes() FROM PUBLIC;

-- Before the submit the order is the customer's alone.
CREATE TRIGGER strangler_fence BEFORE UPDATE OF status, price, currency ON public.orders
FOR EACH ROW WHEN (OLD.status NOT IN ('INITIATED', 'FILE_UPLOADED'))
EXECUTE FUNCTION strangler.fence_writes();

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
GRANT USAGE ON SCHEMA strangler TO strangler_applier, strangler_shadow;
GRANT SELECT (id, status, price, currency), UPDATE (status, price, currency, updated_at) ON public.orders TO strangler_applier;
GRANT SELECT, INSERT, UPDATE ON strangler.order_fence TO strangler_applier;
GRANT SELECT, DELETE ON strangler.crm_writes TO strangler_shadow;
GRANT SELECT (id) ON public.orders TO strangler_shadow;
GRANT SELECT ON strangler.late_writes, strangler.order_fence, strangler.fenced_writer, strangler.crm_writes TO strangler_operator, strangler_watch;

-- A repin lowers and raises the fence of one order.

-- legacy: CRM's writes stick again. The row stays, so that an applier of an earlier epoch, frozen until now, neither writes nor
-- raises the fence anew.
ALTER TABLE strangler.order_fence
  ADD COLUMN path text NOT NULL DEFAULT 'direct' CONSTRAINT path_is_known CHECK (path IN ('legacy', 'direct'));

-- As before, of orders whose fence is up.
CREATE OR REPLACE FUNCTION strangler.fence_writes() RETURNS trigger
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
         EXISTS (SELECT FROM strangler.order_fence f WHERE f.order_id = NEW.id AND f.path = 'direct')
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

GRANT INSERT, UPDATE ON strangler.order_fence TO strangler_operator;

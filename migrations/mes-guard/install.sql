-- The only airtight rung of the in-doubt ladder: the MES itself takes an order once. Additive DDL, no code of the MES changes.
-- It also stops what no sender can prevent: a broker that delivers a message again after the MES stored it and before the broker
-- heard so. What it drops, it records. Refuses to go in while the MES holds an order twice.
-- Removing it: DROP TRIGGER strangler_one_row_per_order ON public.orders; DROP SCHEMA strangler CASCADE.
CREATE SCHEMA strangler;

-- No row may slip in between the copy of what is there and the trigger.
LOCK TABLE public.orders IN SHARE ROW EXCLUSIVE MODE;

CREATE TABLE strangler.received (order_id uuid PRIMARY KEY);
INSERT INTO strangler.received SELECT order_id FROM public.orders;

CREATE TABLE strangler.dropped_duplicate (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id uuid NOT NULL,
  -- The broker's own flag: true = the broker delivered the same message again; false = somebody sent a second one.
  redelivered boolean NOT NULL,
  at timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE FUNCTION strangler.one_row_per_order() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$
BEGIN
  -- The key makes two inserts of one order wait for each other; a row that the MES has lost may come again.
  INSERT INTO strangler.received VALUES (NEW.order_id) ON CONFLICT DO NOTHING;
  IF NOT FOUND AND EXISTS (SELECT 1 FROM public.orders o WHERE o.order_id = NEW.order_id) THEN
    INSERT INTO strangler.dropped_duplicate (order_id, redelivered) VALUES (NEW.order_id, NEW.redelivered);
    RETURN NULL;
  END IF;
  RETURN NEW;
END $$;
REVOKE ALL ON FUNCTION strangler.one_row_per_order() FROM PUBLIC;

CREATE TRIGGER strangler_one_row_per_order BEFORE INSERT ON public.orders
FOR EACH ROW EXECUTE FUNCTION strangler.one_row_per_order();

GRANT USAGE ON SCHEMA strangler TO strangler_mes_reader;
GRANT SELECT ON strangler.dropped_duplicate TO strangler_mes_reader;

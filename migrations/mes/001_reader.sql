-- The toolkit only reads the MES: which orders it holds is the evidence of the in-doubt ladder and of reconcile.
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'strangler_mes_reader') THEN
    CREATE ROLE strangler_mes_reader NOLOGIN;
  END IF;
END $$;
GRANT SELECT ON public.orders TO strangler_mes_reader;

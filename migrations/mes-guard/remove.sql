DROP TRIGGER strangler_one_row_per_order ON public.orders;
DROP SCHEMA strangler CASCADE;

-- The connections of the intake plan each statement for its values, since a plan made while a table was small would scan it whole
-- when it has grown. The statements in here look up single rows by their keys: one plan each is right for ever, and planning them for
-- every order was most of what an order cost.
ALTER FUNCTION accept_order SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION accept_order SET enable_seqscan = off;

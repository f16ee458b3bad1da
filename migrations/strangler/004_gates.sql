-- What was refused for good is asked for every few seconds, and is a handful among all the orders there ever were.
CREATE INDEX ledger_dead ON order_ledger (accepted_at) WHERE state = 'dead';

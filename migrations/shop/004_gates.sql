-- The window of the gates, of `plan` and of `retire`.
CREATE INDEX outbox_by_time ON strangler.outbox (at);

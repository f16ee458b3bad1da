-- What is due is looked for partner by partner.
CREATE INDEX webhook_message_due_of_partner ON webhook_message (partner, next_attempt_at) WHERE state = 'open';
DROP INDEX webhook_message_due;

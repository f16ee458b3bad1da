-- The console: who may use it, who does, and who tries too often.

-- Made by `strangler console-user`. password: scrypt with its parameters and salt, see console/password.ts.
CREATE TABLE console_user (
  name text PRIMARY KEY CONSTRAINT name_is_plain CHECK (name ~ '^[a-z0-9][a-z0-9._@-]{0,63}$'),
  password text NOT NULL CONSTRAINT password_is_hashed CHECK (password LIKE 'scrypt:%'),
  role text NOT NULL CONSTRAINT role_is_known CHECK (role IN ('reader', 'operator')),
  disabled boolean NOT NULL DEFAULT false,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Of the token only its hash: whoever reads this table can't be anybody. It ends when it has been idle too long, or at the latest
-- at ends_at. source: how the person was identified; a header names people that are not in console_user.
CREATE TABLE console_session (
  token_sha256 bytea PRIMARY KEY CONSTRAINT token_is_hashed CHECK (length(token_sha256) = 32),
  name text NOT NULL,
  source text NOT NULL CONSTRAINT source_is_known CHECK (source IN ('password', 'header')),
  csrf text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ends_at timestamptz NOT NULL
);
CREATE INDEX console_session_by_name ON console_session (name);

-- Attempts to log in, by name and address, by address, by name: counted before the password is looked at.
CREATE TABLE console_attempt (
  key text PRIMARY KEY,
  attempts int NOT NULL,
  since timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- How many orders are closed is counted for the page again and again.
CREATE INDEX bridge_inbox_closed ON bridge_inbox (order_id) WHERE routing_key = 'order.closed';

-- The console reads who may log in, and never writes it: whoever takes it over can't make a user.
DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['strangler_console', 'strangler_console_admin'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END $$;
GRANT SELECT ON console_user TO strangler_console;
GRANT SELECT, INSERT, UPDATE, DELETE ON console_session, console_attempt TO strangler_console;
GRANT SELECT, INSERT, UPDATE ON console_user TO strangler_console_admin;
GRANT SELECT (name, token_sha256), DELETE ON console_session TO strangler_console_admin;
GRANT INSERT ON phase_event TO strangler_console_admin;

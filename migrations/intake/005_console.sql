-- What the console shows of partners: columns, and none that holds a secret or its hash.
DO $$
BEGIN
  IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = 'strangler_console') THEN
    CREATE ROLE strangler_console NOLOGIN;
  END IF;
END $$;
GRANT USAGE ON SCHEMA strangler TO strangler_console;
GRANT SELECT ON strangler.route, strangler.route_token TO strangler_console;
GRANT SELECT (id, mode, route, entered_at, requests_per_minute, uploads_at_once) ON partner TO strangler_console;
GRANT SELECT (id, partner, imported, created_at, last_used_at, revoked_at) ON api_key TO strangler_console;
GRANT SELECT (id, partner, born, path_reason, created_at) ON partner_order TO strangler_console;
GRANT SELECT (partner, url, disabled_at, disabled_why) ON webhook TO strangler_console;
GRANT SELECT (partner, state, next_attempt_at, last_error, created_at, delivered_at) ON webhook_message TO strangler_console;

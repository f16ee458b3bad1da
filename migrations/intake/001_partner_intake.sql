-- The partner intake: who the partners are, what they ordered, what they were answered. No table is shared with the MES.
CREATE SCHEMA strangler;

-- What is in force for the orders of partners behind the intake; written like `strangler.route` of the Shop DB. No row means `legacy`.
CREATE TABLE strangler.route (
  phase text PRIMARY KEY,
  epoch int NOT NULL,
  share int NOT NULL CONSTRAINT share_in_ten_thousandths CHECK (share BETWEEN 0 AND 10000),
  seed int NOT NULL,
  counted boolean NOT NULL DEFAULT false,
  changed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE TABLE strangler.route_token (
  phase text NOT NULL,
  epoch int NOT NULL,
  n int NOT NULL,
  PRIMARY KEY (phase, epoch, n)
);
-- The same function as bucketOf in contracts/path-share.ts.
CREATE FUNCTION strangler.bucket(key text, seed int) RETURNS int
LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT ((('x' || encode(substr(sha256(convert_to(seed::text || ':' || key, 'UTF8')), 1, 4), 'hex'))::bit(32)::bigint) % 10000)::int
$$;

-- Position in the life of an order, from 1; 0 for a word that is no status. The same ladder as in contracts/order.ts.
CREATE FUNCTION status_rank(status text) RETURNS int LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
  SELECT coalesce(array_position(ARRAY['INITIATED', 'FILE_UPLOADED', 'SUBMITTED', 'PRICE_CALCULATED', 'MANUFACTURING_APPROVED',
    'MANUFACTURING_STARTED', 'MANUFACTURING_COMPLETED', 'PACKAGING', 'SHIPPED', 'CLOSED'], status), 0)
$$;

CREATE TABLE partner (
  -- As the MES calls it, so that an order names the same partner on either path.
  id text PRIMARY KEY CONSTRAINT id_length CHECK (length(id) BETWEEN 1 AND 100),
  -- compat: fields, answers and errors of the MES. strict: a key is required, and errors are problems (RFC 9457).
  mode text NOT NULL DEFAULT 'compat' CONSTRAINT mode_is_known CHECK (mode IN ('compat', 'strict')),
  -- mes: the proxy sends its calls to the MES. entering: calls that order wait at the intake until the MES has finished what it
  -- had begun, and all of it is imported; reads still go to the MES. intake: everything goes to the intake.
  route text NOT NULL DEFAULT 'mes' CONSTRAINT route_is_known CHECK (route IN ('mes', 'entering', 'intake')),
  -- The newest of all with every change of a route or of a key, of any partner, in the order of the commits: a proxy tells which
  -- one it has seen.
  route_version bigint NOT NULL DEFAULT 0,
  -- When its route last became `intake`.
  entered_at timestamptz,
  -- Per instance of the service: requests in a minute, uploads at once.
  requests_per_minute int NOT NULL DEFAULT 6000 CONSTRAINT some_requests CHECK (requests_per_minute > 0),
  uploads_at_once int NOT NULL DEFAULT 32 CONSTRAINT some_uploads CHECK (uploads_at_once > 0),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE SEQUENCE partner_route_version;

-- Of a key only its SHA-256 is stored: keys are random and long, so a slow hash would add nothing but time.
CREATE TABLE api_key (
  id text PRIMARY KEY,
  partner text NOT NULL REFERENCES partner,
  secret_sha256 bytea NOT NULL CONSTRAINT one_partner_per_key UNIQUE CONSTRAINT sha256_length CHECK (length(secret_sha256) = 32),
  -- Imported from the MES: the partner has had it all along.
  imported boolean NOT NULL DEFAULT false,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  last_used_at timestamptz,
  revoked_at timestamptz
);
CREATE INDEX api_key_by_partner ON api_key (partner);

CREATE TABLE partner_order (
  id uuid PRIMARY KEY,
  partner text NOT NULL REFERENCES partner,
  external_id text NOT NULL,
  material text NOT NULL,
  quantity int NOT NULL,
  comment text,
  model_key text NOT NULL,
  model_sha256 text NOT NULL,
  model_bytes bigint NOT NULL,
  -- intake: accepted here, delivered by the courier. mes: the MES took it over its own API, forwarded by us or not.
  born text NOT NULL CONSTRAINT born_is_known CHECK (born IN ('mes', 'intake')),
  path_epoch int NOT NULL,
  path_reason jsonb NOT NULL,
  status text NOT NULL,
  price numeric(12,2),
  currency text,
  -- The last event of this order that was applied: the order of arrival at the bridge. 0: none yet.
  applied_event bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL,
  updated_at timestamptz NOT NULL
);
CREATE INDEX partner_order_newest ON partner_order (partner, created_at DESC, id DESC);
CREATE INDEX partner_order_by_status ON partner_order (partner, status, created_at DESC, id DESC);

-- What a partner was answered, for ever: a row per key. Every order has the key of its external id; one that came with an
-- Idempotency-Key has that as well. The key exists because the order does: both are written in one transaction.
--   forwarding -> done       the MES has been asked for the order; who dies in between leaves that to the evidence
CREATE TABLE answer (
  partner text NOT NULL REFERENCES partner,
  key_sha256 bytea NOT NULL,
  request_sha256 bytea NOT NULL,
  state text NOT NULL CONSTRAINT state_is_known CHECK (state IN ('forwarding', 'done')),
  order_id uuid,
  status int,
  -- As it was sent: jsonb would change the order of its keys, and a replay would be another body.
  body bytea,
  -- The MES was asked by us for this very request; otherwise it is known from here, or was imported.
  forwarded boolean NOT NULL DEFAULT false,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (partner, key_sha256),
  CONSTRAINT done_has_an_answer CHECK (state <> 'done' OR num_nonnulls(order_id, status, body) = 3)
);
CREATE INDEX answer_forwarding ON answer (at) WHERE state = 'forwarding';

-- Orders that were accepted here, on their way to the ledger.
CREATE TABLE outbox (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  order_id uuid NOT NULL CONSTRAINT one_row_per_order UNIQUE REFERENCES partner_order,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  relayed_at timestamptz
);
CREATE INDEX outbox_to_relay ON outbox (id) WHERE relayed_at IS NULL;

-- What each proxy has seen of the partners' routes, and the oldest version by which a write that is still open was sent to the MES
-- (`seen_version` where none is). A partner has entered once nobody can send its orders to the MES any more. Silent for longer
-- than `lease_ms`, a proxy has nothing at work that it has not told of here.
CREATE TABLE proxy_replica (
  id uuid PRIMARY KEY,
  host text NOT NULL,
  pid int NOT NULL,
  seen_version bigint NOT NULL,
  oldest_open bigint NOT NULL,
  open_writes int NOT NULL,
  lease_ms int NOT NULL,
  seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Decides and stores one order: once, whoever asks how often. Outcomes:
--   accepted   order, answers and outbox row are written, and the answer is the one given
--   replayed   one of the keys has an answer, of the same request
--   differs    one of the keys belongs to another request; nothing is written
--   running    one of the keys is being forwarded
--   forward    the MES is to be asked: the keys are taken
--   moving     the partner is just entering; nothing is written
--   elsewhere  the partner's orders are the MES's to take; nothing is written
CREATE FUNCTION accept_order(
  of_partner text, keys bytea[], request bytea, new_id uuid, new_external_id text, new_material text, new_quantity int,
  new_comment text, new_model_key text, new_model_sha256 text, new_model_bytes bigint, new_status int, new_body bytea,
  OUT outcome text, OUT order_id uuid, OUT status int, OUT body bytea, OUT path_epoch int, OUT path_reason jsonb)
LANGUAGE plpgsql AS $$
DECLARE
  force record;
  known record;
  bucket int;
  rule text;
  token int;
  direct boolean;
BEGIN
  -- Before the route is read, see flags/flip-complete.ts.
  PERFORM pg_current_xact_id();
  LOOP
    SELECT bool_or(a.request_sha256 <> request) AS differs, bool_or(a.state = 'forwarding') AS running, count(*) AS found,
      (array_agg(a.order_id))[1] AS order_id, (array_agg(a.status))[1] AS status, (array_agg(a.body))[1] AS body
    INTO known FROM answer a WHERE a.partner = of_partner AND a.key_sha256 = ANY(keys);
    IF known.found > 0 THEN
      outcome := CASE WHEN known.differs THEN 'differs' WHEN known.running THEN 'running' ELSE 'replayed' END;
      IF outcome = 'replayed' THEN
        order_id := known.order_id;
        status := known.status;
        body := known.body;
        -- A retry that brings a key of its own: from now on it means this order.
        IF known.found < cardinality(keys) THEN
          INSERT INTO answer (partner, key_sha256, request_sha256, state, order_id, status, body)
          SELECT of_partner, k, request, 'done', known.order_id, known.status, known.body FROM unnest(keys) k ON CONFLICT DO NOTHING;
        END IF;
      END IF;
      RETURN;
    END IF;
    outcome := (SELECT CASE p.route WHEN 'intake' THEN NULL WHEN 'entering' THEN 'moving' ELSE 'elsewhere' END
      FROM partner p WHERE p.id = of_partner);
    IF outcome IS NOT NULL THEN
      RETURN;
    END IF;
    SELECT r.epoch, r.share, r.seed, r.counted INTO force FROM strangler.route r WHERE r.phase = 'partner-intake';
    bucket := strangler.bucket(of_partner || ':' || new_external_id, coalesce(force.seed, 1));
    direct := coalesce(bucket < force.share, false);
    rule := CASE WHEN force.epoch IS NULL THEN 'no route' ELSE 'share' END;
    BEGIN
      IF NOT direct AND force.counted THEN
        SELECT t.n INTO token FROM strangler.route_token t WHERE t.phase = 'partner-intake' AND t.epoch = force.epoch
        ORDER BY t.n LIMIT 1 FOR UPDATE SKIP LOCKED;
        DELETE FROM strangler.route_token t WHERE t.phase = 'partner-intake' AND t.epoch = force.epoch AND t.n = token;
        IF FOUND THEN
          direct := true;
          rule := 'token';
        END IF;
      END IF;
      path_epoch := coalesce(force.epoch, 0);
      path_reason := jsonb_build_object('rule', rule, 'share', force.share, 'bucket', bucket);
      IF direct THEN
        outcome := 'accepted';
        order_id := new_id;
        status := new_status;
        body := new_body;
        INSERT INTO answer (partner, key_sha256, request_sha256, state, order_id, status, body)
        SELECT of_partner, k, request, 'done', new_id, new_status, new_body FROM unnest(keys) k;
        INSERT INTO partner_order (id, partner, external_id, material, quantity, comment, model_key, model_sha256, model_bytes, born,
          path_epoch, path_reason, status, created_at, updated_at)
        VALUES (new_id, of_partner, new_external_id, new_material, new_quantity, new_comment, new_model_key, new_model_sha256,
          new_model_bytes, 'intake', accept_order.path_epoch, accept_order.path_reason, 'SUBMITTED', clock_timestamp(), clock_timestamp());
        INSERT INTO outbox (order_id) VALUES (new_id);
      ELSE
        outcome := 'forward';
        INSERT INTO answer (partner, key_sha256, request_sha256, state, forwarded)
        SELECT of_partner, k, request, 'forwarding', true FROM unnest(keys) k;
      END IF;
      RETURN;
    EXCEPTION WHEN unique_violation THEN
      -- Somebody else had the key first, and has committed by now: its answer is the one. A token that was taken is free again.
      order_id := NULL;
      status := NULL;
      body := NULL;
    END;
  END LOOP;
END $$;

-- What the proxy needs to know of a key: whose it is, and where its calls go. A revoked key as well: the MES may know it still,
-- and a partner that has entered must not order there. A partner without a key has one row, for its version.
CREATE VIEW partner_route WITH (security_barrier) AS
  SELECT k.secret_sha256, p.id AS partner, p.route, p.route_version
  FROM partner p LEFT JOIN api_key k ON k.partner = p.id;

DO $$
DECLARE
  wanted text;
BEGIN
  FOREACH wanted IN ARRAY ARRAY['strangler_proxy', 'strangler_intake', 'strangler_partner_relay', 'strangler_partner_feed', 'strangler_shadow',
    'strangler_operator'] LOOP
    IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = wanted) THEN
      EXECUTE format('CREATE ROLE %I NOLOGIN', wanted);
    END IF;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION accept_order FROM PUBLIC;
GRANT USAGE ON SCHEMA strangler TO strangler_intake, strangler_partner_relay, strangler_partner_feed, strangler_operator;
GRANT EXECUTE ON FUNCTION accept_order TO strangler_intake;
GRANT SELECT ON strangler.route, partner, api_key TO strangler_intake;
GRANT SELECT, UPDATE, DELETE ON strangler.route_token TO strangler_intake;
GRANT SELECT, INSERT ON partner_order, outbox TO strangler_intake;
GRANT SELECT, INSERT, UPDATE, DELETE ON answer TO strangler_intake;
GRANT UPDATE (last_used_at) ON api_key TO strangler_intake;
GRANT SELECT ON partner_route TO strangler_proxy;
GRANT SELECT, INSERT, UPDATE, DELETE ON proxy_replica TO strangler_proxy;
GRANT SELECT ON answer TO strangler_shadow;
GRANT SELECT ON partner_order TO strangler_partner_relay;
GRANT SELECT, UPDATE (relayed_at) ON outbox TO strangler_partner_relay;
GRANT SELECT ON partner TO strangler_partner_feed;
GRANT SELECT, INSERT, UPDATE ON partner_order TO strangler_partner_feed;
GRANT SELECT, INSERT, UPDATE, DELETE ON answer TO strangler_partner_feed;
GRANT SELECT, INSERT, UPDATE ON partner, api_key, partner_order, answer, strangler.route TO strangler_operator;
GRANT SELECT, INSERT, UPDATE, DELETE ON strangler.route_token TO strangler_operator;
GRANT SELECT ON outbox, proxy_replica TO strangler_operator;
GRANT USAGE ON SEQUENCE partner_route_version TO strangler_operator;

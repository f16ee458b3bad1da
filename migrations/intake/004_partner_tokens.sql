-- Counted steps of one partner: its orders alone take such a token. No index of its own: a counted step is a handful of them.
ALTER TABLE strangler.route_token
  -- NULL: an order of any partner may take it.
  ADD COLUMN partner text REFERENCES partner;

-- As in 001 but for the partner of a token.
CREATE OR REPLACE FUNCTION accept_order(
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
          AND (t.partner IS NULL OR t.partner = of_partner)
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

-- What the proxies' shadow found: each answer of the MES against the one that the intake would have given, and each of the intake
-- against that of the MES.

-- A row per life of a proxy, which writes its totals again and again. eligible = compared + dropped, but for what is under way or
-- was under way when a proxy was killed.
CREATE TABLE partner_shadow_count (
  day date NOT NULL,
  partner text NOT NULL,
  endpoint text NOT NULL,
  proxy uuid NOT NULL,
  eligible bigint NOT NULL,
  compared bigint NOT NULL,
  differing bigint NOT NULL,
  dropped bigint NOT NULL,
  PRIMARY KEY (day, partner, endpoint, proxy),
  CONSTRAINT no_more_than_eligible CHECK (differing <= compared AND compared + dropped <= eligible)
);
CREATE INDEX partner_shadow_count_by_partner ON partner_shadow_count (partner, day);

-- The newest thousand of a partner, an endpoint and a field, and ten thousand over all fields. Values that may be of a person are hashes.
CREATE TABLE partner_shadow_difference (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  partner text NOT NULL,
  endpoint text NOT NULL,
  field text NOT NULL,
  -- Its id, or the partner's number where it got none.
  order_ref text,
  -- Of the intake, and of the MES. NULL: there is none.
  ours text,
  theirs text,
  at timestamptz NOT NULL DEFAULT clock_timestamp(),
  proxy uuid NOT NULL,
  n bigint NOT NULL,
  CONSTRAINT booked_once UNIQUE (proxy, n)
);
CREATE INDEX partner_shadow_difference_newest ON partner_shadow_difference (partner, endpoint, field, id);

-- All that a proxy may do here, so it needs no right on the tables.
CREATE FUNCTION book_partner_shadow(of_proxy uuid, counts jsonb, differences jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
BEGIN
  INSERT INTO partner_shadow_count AS c (day, partner, endpoint, proxy, eligible, compared, differing, dropped)
  SELECT e.day, e.partner, e.endpoint, of_proxy, e.eligible, e.compared, e.differing, e.dropped
  FROM jsonb_to_recordset(counts) AS e(day date, partner text, endpoint text, eligible bigint, compared bigint, differing bigint, dropped bigint)
  ON CONFLICT (day, partner, endpoint, proxy) DO UPDATE SET
    eligible = excluded.eligible, compared = excluded.compared, differing = excluded.differing, dropped = excluded.dropped;
  INSERT INTO partner_shadow_difference (partner, endpoint, field, order_ref, ours, theirs, proxy, n)
  SELECT e.partner, e.endpoint, e.field, e."order", left(e.ours, 200), left(e.theirs, 200), of_proxy, e.n
  FROM jsonb_to_recordset(differences) AS e(partner text, endpoint text, field text, "order" text, ours text, theirs text, n bigint)
  ORDER BY e.n ON CONFLICT DO NOTHING;
  DELETE FROM partner_shadow_difference d
  USING (SELECT DISTINCT e.partner, e.endpoint, e.field FROM jsonb_to_recordset(differences) AS e(partner text, endpoint text, field text)) g
  WHERE d.partner = g.partner AND d.endpoint = g.endpoint AND d.field = g.field AND d.id <= (
    SELECT k.id FROM partner_shadow_difference k WHERE k.partner = g.partner AND k.endpoint = g.endpoint AND k.field = g.field
    ORDER BY k.id DESC OFFSET 1000 LIMIT 1);
  -- Names of fields are a foreign system's: there may be any number.
  DELETE FROM partner_shadow_difference d
  USING (SELECT DISTINCT e.partner, e.endpoint FROM jsonb_to_recordset(differences) AS e(partner text, endpoint text)) g
  WHERE d.partner = g.partner AND d.endpoint = g.endpoint AND d.id <= (
    SELECT k.id FROM partner_shadow_difference k WHERE k.partner = g.partner AND k.endpoint = g.endpoint
    ORDER BY k.id DESC OFFSET 10000 LIMIT 1);
END $$;

REVOKE ALL ON FUNCTION book_partner_shadow FROM PUBLIC;
GRANT EXECUTE ON FUNCTION book_partner_shadow TO strangler_proxy;
GRANT SELECT ON partner_shadow_count, partner_shadow_difference TO strangler_operator;

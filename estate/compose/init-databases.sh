#!/bin/bash
# Run once by the PostgreSQL image on an empty volume: databases, owners and logins of the estate, and the legacy schemas.
# The toolkit's own objects come afterwards, by `strangler migrate`.
set -euo pipefail

if [[ ! "$ESTATE_PASSWORD" =~ ^[A-Za-z0-9._~-]+$ ]]; then
  echo 'ESTATE_PASSWORD stands in URLs as it is: only letters, digits and - . _ ~ may be in it' >&2
  exit 1
fi

sql() { psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" "$@"; }
# One password for every login of this stand-in estate; a real deployment gives each its own.
quoted=${ESTATE_PASSWORD//\'/\'\'}

for role in shop crm mes doorbell_user unleash; do sql --dbname postgres -c "CREATE ROLE $role LOGIN PASSWORD '$quoted'"; done
for job in proxy relay bridge courier watch applier shadow intake partner_relay partner_feed partner_webhooks operator console; do
  sql --dbname postgres -c "CREATE ROLE strangler_$job NOLOGIN" -c "CREATE ROLE ${job}_login LOGIN PASSWORD '$quoted' IN ROLE strangler_$job"
done
# The reconciler does what operators do, and only that.
sql --dbname postgres -c "CREATE ROLE reconciler_login LOGIN PASSWORD '$quoted' IN ROLE strangler_operator"
sql --dbname postgres -c 'CREATE ROLE strangler_mes_reader NOLOGIN' -c 'GRANT strangler_mes_reader TO bridge_login, watch_login, operator_login, reconciler_login, partner_feed_login'
sql --dbname postgres -c 'CREATE ROLE strangler_console_admin NOLOGIN' -c 'GRANT strangler_console_admin TO operator_login' -c 'GRANT strangler_operator TO console_login'
sql --dbname postgres -c 'CREATE DATABASE shop OWNER shop' -c 'CREATE DATABASE mes OWNER mes' -c 'CREATE DATABASE ledger' -c 'CREATE DATABASE intake' -c 'CREATE DATABASE unleash OWNER unleash'
sql --dbname shop -c 'SET ROLE shop' -f /legacy/shop/schema.sql
sql --dbname mes -c 'SET ROLE mes' -f /legacy/mes/schema.sql

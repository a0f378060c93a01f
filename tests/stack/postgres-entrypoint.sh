#!/bin/sh
# What the official image's entrypoint does for docker-compose.yaml: a cluster in an empty PGDATA, its superuser's password, then the server.
set -eu
if [ ! -s "$PGDATA/PG_VERSION" ]; then
  umask 077
  mkdir -p "$PGDATA"
  printf '%s' "$POSTGRES_PASSWORD" >/tmp/password
  # shellcheck disable=SC2086 # several arguments
  initdb --pgdata="$PGDATA" --username=postgres --pwfile=/tmp/password --encoding=UTF8 --auth-local=trust $POSTGRES_INITDB_ARGS >/dev/null
  rm /tmp/password
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
fi
exec "$@" -c "listen_addresses=*"

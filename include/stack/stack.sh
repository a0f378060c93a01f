#!/usr/bin/env bash
# The commands of the stack: `make up`, `down`, and `make stack DO=logs|backup|restore|serve|land|user|maintain`.
# shellcheck disable=SC2329 # functions are called by the name of the command
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

env_file=${ENV_FILE:-.env}
timeout=${UP_TIMEOUT:-600}

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# A setting: from the shell, else from the file, else the default given here.
setting() {
  local value=${!1:-}
  [ -n "$value" ] || value=$(sed -n "s/^$1=//p" "$env_file" 2>/dev/null | tail -n 1)
  printf '%s' "${value:-$2}"
}

if [ -z "${COMPOSE:-}" ]; then
  if docker compose version >/dev/null 2>&1; then COMPOSE="docker compose"; else COMPOSE=docker-compose; fi
fi
compose() {
  # shellcheck disable=SC2086 # COMPOSE may be two words
  $COMPOSE --env-file "$env_file" "$@"
}

# `prepare as_it_is` is for commands that start services again: as many as `make up` has started, whether .env or the shell said so.
prepare() {
  docker version >/dev/null 2>&1 || fail "No container engine answers. Install or start Docker 20.10 or newer, or use \`make run\`, which needs none."
  ${COMPOSE%% *} --help >/dev/null 2>&1 || fail "Compose is missing. Install docker-compose 1.29 or newer."
  python3 include/stack/make_env.py "$env_file"
  GIT_COMMIT=$(git rev-parse HEAD 2>/dev/null || true)
  CHURN_MLFLOW_UI_URL=$(setting CHURN_MLFLOW_UI_URL "http://127.0.0.1:$(setting CHURN_MLFLOW_PORT 5005)")
  export GIT_COMMIT CHURN_MLFLOW_UI_URL
  [ -z "${1:-}" ] || "$1"
  if [ -n "$(spark)" ]; then
    SPARK=1
    CHURN_SPREAD=$(setting CHURN_SPREAD spark)
    export SPARK CHURN_SPREAD
  fi
}

as_it_is() {
  local workers spark_workers
  workers=$(compose ps -q worker | wc -l)
  spark_workers=$(compose --profile spark ps -q spark-worker | wc -l)
  if [ "$workers" -gt 0 ]; then export WORKERS=$workers; fi
  if [ "$spark_workers" -gt 0 ]; then export SPARK=1 SPARK_WORKERS=$spark_workers; fi
}

# Every container of the project: service, state, exit code, and health if it has a health check.
states() {
  local ids
  # shellcheck disable=SC2046 # no word or two
  ids=$(compose $(spark) ps -q)
  # shellcheck disable=SC2086 # one id a word
  [ -z "$ids" ] || docker inspect --format \
    '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}}' $ids | sort
}

wait_until_healthy() {
  local began=$SECONDS now before="" bad waiting
  while :; do
    now=$(states)
    bad=$(awk '$2 == "exited" && $3 != 0 { print $1 }' <<<"$now")
    [ -z "$bad" ] || fail "These services ended with an error: ${bad//$'\n'/ }. \`make stack DO=logs\` shows why."
    waiting=$(awk '!($2 == "exited" && $3 == 0) && $4 != "healthy" { print $1 }' <<<"$now")
    [ -n "$waiting" ] || break
    if [ "$waiting" != "$before" ]; then say "  waiting for: ${waiting//$'\n'/ }"; fi
    before=$waiting
    [ $((SECONDS - began)) -lt "$timeout" ] || fail "Not healthy after $timeout s: ${waiting//$'\n'/ }. \`make stack DO=logs\` shows why."
    sleep 1
  done
  say "All services are healthy after $((SECONDS - began)) s."
}

# The profile of Spark, if the stack is to spread data work over it.
spark() {
  [ -z "$(setting SPARK "")" ] || printf -- '--profile spark'
}

start() {
  local workers=""
  [ -z "$(spark)" ] || workers="--scale spark-worker=$(setting SPARK_WORKERS 2)"
  # shellcheck disable=SC2046,SC2086 # several words each
  compose $(spark) up -d --scale worker="$(setting WORKERS 1)" $workers && return
  compose logs --no-color --tail=15 init buckets >&2
  fail "The stack did not start. The last log lines of its preparation are above."
}

# Whether a stack is running from an image other than the current one.
changed() {
  local id
  id=$(compose ps -q scheduler 2>/dev/null)
  [ -n "$id" ] && [ "$(docker inspect --format '{{.Image}}' "$id")" != "$(docker image inspect --format '{{.Id}}' "$(setting STACK_IMAGE churn-stack)")" ]
}

# Everything that writes, which are Spark's executors too.
stop_writers() {
  compose --profile spark stop api-server scheduler dag-processor triggerer worker builder mlflow spark-master spark-worker >/dev/null 2>&1
}

up() {
  prepare
  say "Building the image; the first time this takes some minutes."
  compose build --quiet 2>/dev/null || compose build
  if changed; then
    say "The image has changed. Stopping every service that writes, before the tables are migrated."
    stop_writers
  fi
  if [ -z "$(spark)" ]; then compose --profile spark rm --stop --force -v spark-worker spark-master >/dev/null 2>&1; fi
  say "Starting."
  start
  wait_until_healthy
  say "Airflow: $(setting CHURN_AIRFLOW_UI_URL "http://127.0.0.1:$(setting CHURN_AIRFLOW_PORT 8080)")   user admin, password: AIRFLOW_ADMIN_PASSWORD in $env_file"
  say "MLflow:  $CHURN_MLFLOW_UI_URL   user admin, password: MLFLOW_ADMIN_PASSWORD in $env_file"
  [ -z "$(spark)" ] || say "Spark:   http://127.0.0.1:$(setting SPARK_UI_PORT 8082)   the master; no login, on this machine only"
  say "\`make stack DO=user NAME=vera ROLE=Viewer\` adds a user (Viewer, Op, Admin). \`make down\` stops the stack and keeps its data."
}

# Deletes anonymous volumes with their containers; the data is in the named volumes, which are kept.
down() {
  compose --profile serving --profile spark rm --stop --force -v >/dev/null
  # The container of a killed verification keeps its network in use, which would stop the rest from being removed.
  docker ps --all --quiet --filter label=churn.verifying --filter "network=$(setting VERIFICATION_NETWORK churn-stack-verification)" |
    xargs --no-run-if-empty docker rm --force >/dev/null
  compose --profile serving --profile spark down --remove-orphans
  say "Stopped. The data is kept in the volumes; \`make up\` uses it again."
}

# shellcheck disable=SC2046 # no word or two
logs() { compose $(spark) logs --tail="${TAIL:-200}" ${FOLLOW:+--follow} ${SERVICE:+"$SERVICE"}; }

# Runs a PostgreSQL command in its container, as superuser.
in_postgres() {
  # shellcheck disable=SC2016 # the container's variable
  compose exec -T postgres sh -c 'PGPASSWORD=$POSTGRES_PASSWORD PGHOST=127.0.0.1 PGUSER=postgres exec "$@"' sh "$@"
}

with_buckets() { compose run --rm -T buckets python include/stack/copy_buckets.py "$1"; }

require_own_postgres() {
  [ "$(setting POSTGRES_HOST postgres)" = postgres ] || fail "The databases are at $(setting POSTGRES_HOST postgres). Back up and restore them there."
}

# Runs are paused meanwhile, so that databases and buckets show the same moment; interrupted tasks are retried afterwards.
backup() {
  local folder
  prepare as_it_is
  require_own_postgres
  folder=${BACKUP:-backups/$(date -u +%Y-%m-%dT%H%M%S)}
  [ ! -e "$folder" ] || fail "$folder already exists. Choose another: make stack DO=backup BACKUP=folder"
  umask 077
  mkdir -p "$folder.unfinished"
  say "Waiting for running tasks to end"
  trap 'start; wait_until_healthy' EXIT
  compose stop --timeout 300 scheduler worker builder >/dev/null 2>&1
  for database in churn mlflow airflow; do
    say "Saving database $database"
    in_postgres pg_dump --format=custom "$database" >"$folder.unfinished/$database.dump"
  done
  say "Saving the buckets"
  with_buckets save >"$folder.unfinished/buckets.tar"
  mv "$folder.unfinished" "$folder"
  say "Saved to $folder ($(du -sh "$folder" | cut -f 1)). Keep it on another machine, and $env_file, which has the keys, in a third place."
}

restore() {
  local folder=${BACKUP:-}
  require_own_postgres
  [ -n "$folder" ] || fail "Name the backup: make stack DO=restore BACKUP=backups/... It replaces all data of the stack."
  for file in churn.dump mlflow.dump airflow.dump buckets.tar; do
    [ -s "$folder/$file" ] || fail "$folder is not a complete backup: $file is missing."
  done
  prepare as_it_is
  say "Stopping every service that writes"
  stop_writers || true
  compose up -d postgres seaweedfs redis
  until in_postgres pg_isready --quiet 2>/dev/null; do sleep 1; done
  for database in churn mlflow airflow; do in_postgres dropdb --if-exists --force "$database"; done
  compose run --rm -T init python include/stack/databases.py
  for database in churn mlflow airflow; do
    say "Restoring database $database"
    in_postgres pg_restore --exit-on-error --no-owner --role="$database" --dbname="$database" <"$folder/$database.dump"
  done
  say "Restoring the buckets"
  with_buckets load <"$folder/buckets.tar"
  compose exec -T redis redis-cli flushall >/dev/null # queued tasks from before the restore
  start
  wait_until_healthy
  say "Comparing the MLflow registry with the ledger"
  compose run --rm -T churn reconcile
  compose run --rm -T churn audit
}

# What tasks cannot do, since they reach no database; the DAG churn_maintenance does the rest.
maintain() {
  prepare
  compose run --rm -T init airflow db clean --yes --skip-archive --clean-before-timestamp "$(date -u -d "${KEEP_DAYS:-180} days ago" +%Y-%m-%dT00:00:00+00:00)"
  # shellcheck disable=SC2016 # the container's variables
  compose exec -T mlflow sh -c 'MLFLOW_TRACKING_URI=http://127.0.0.1:5005 MLFLOW_TRACKING_USERNAME=admin MLFLOW_TRACKING_PASSWORD=$MLFLOW_AUTH_ADMIN_PASSWORD \
    exec mlflow gc --older-than 30d --backend-store-uri "$MLFLOW_DATABASE" --artifacts-destination "$MLFLOW_ARTIFACTS"'
}

# Serves the image of the version in production, by its digest in the image registry, else by its id.
serve() {
  prepare
  # shellcheck disable=SC2016 # Python
  SERVED_IMAGE=$(compose run --rm -T churn image list --json | python3 -c '
import json, sys
found = [image for image in json.load(sys.stdin) if image["in_production"] and image["state"] == "published"]
if not found: sys.exit("No published image is in production. `churn image list` shows the state of each image.")
image = found[0]
sys.stdout.write(image["tag"].rpartition(":")[0] + "@" + image["digest"] if image["digest"] else image["image_id"])')
  export SERVED_IMAGE
  compose --profile serving up -d --no-deps serving
  say "Serving $SERVED_IMAGE on http://127.0.0.1:$(setting SERVING_PORT 8081)/invocations"
}

# Lands a file of this machine, complete or not at all; with POPULATION=1, current customers to be scored.
land() {
  [ -f "${FILE:-}" ] || fail "Name the file: make stack DO=land FILE=path/to/Churn_Modelling.csv (POPULATION=1: customers to be scored)"
  # shellcheck disable=SC2016,SC2094 # the container's variables, and the container's file
  compose run --rm -T --entrypoint include/stack/entrypoint.sh churn \
    sh -c 'cat >"$TMPDIR/$1" && exec churn land "$TMPDIR/$@"' sh "$(basename "$FILE")" ${POPULATION:+--population} <"$FILE"
}

user() {
  [ -n "${NAME:-}" ] || fail "Name the user: make stack DO=user NAME=vera ROLE=Viewer   (Viewer reads, Op triggers and approves, Admin may do everything)"
  compose run --rm -T --no-deps init python include/stack/users.py "$NAME" "${ROLE:-Viewer}"
}

# Bash reads the whole file before it runs, so a `git pull` during a long command does not change it.
main() {
  case "${1:-}" in
    up | down | logs | backup | restore | serve | land | user | maintain) "$1" ;;
    upkeep) maintain ;; # its name until 0.1
    *) fail "Usage: include/stack/stack.sh up|down|logs|backup|restore|serve|land|user|maintain" ;;
  esac
  exit
}

main "$@"

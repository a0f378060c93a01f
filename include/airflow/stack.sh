#!/usr/bin/env bash
# What `make up`, `down`, `logs`, `backup`, `restore`, `serve` and `user` do with docker-compose.yaml.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

env_file=${ENV_FILE:-.env}
timeout=${UP_TIMEOUT:-600}

say() { printf '%s\n' "$*"; }

fail() {
  printf '%s\n' "$*" >&2
  exit 1
}

# A setting: the shell's, else the file's, else what is said here.
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

prepare() {
  docker version >/dev/null 2>&1 || fail "No container engine answers. Install or start Docker 20.10 or newer; \`make run\` needs none."
  ${COMPOSE%% *} --help >/dev/null 2>&1 || fail "Compose is missing. Install docker-compose 1.29 or newer."
  python3 include/airflow/make_env.py "$env_file"
  GIT_COMMIT=$(git rev-parse HEAD 2>/dev/null || true)
  CHURN_MLFLOW_UI_URL=$(setting CHURN_MLFLOW_UI_URL "http://127.0.0.1:$(setting CHURN_MLFLOW_PORT 5005)")
  export GIT_COMMIT CHURN_MLFLOW_UI_URL
}

# Every container of the project: its service, its state, and its health if it has one.
states() {
  local ids
  ids=$(compose ps -q)
  # shellcheck disable=SC2086 # one id a word
  [ -z "$ids" ] || docker inspect --format \
    '{{index .Config.Labels "com.docker.compose.service"}} {{.State.Status}} {{.State.ExitCode}} {{if .State.Health}}{{.State.Health.Status}}{{else}}-{{end}}' $ids | sort
}

wait_until_well() {
  local began=$SECONDS now before="" bad waiting
  while :; do
    now=$(states)
    bad=$(awk '$2 == "exited" && $3 != 0 { print $1 }' <<<"$now")
    [ -z "$bad" ] || fail "These ended with an error: ${bad//$'\n'/ }. \`make logs\` shows why."
    waiting=$(awk '!($2 == "exited" && $3 == 0) && $4 != "healthy" { print $1 }' <<<"$now")
    [ -n "$waiting" ] || break
    if [ "$waiting" != "$before" ]; then say "  waiting for: ${waiting//$'\n'/ }"; fi
    before=$waiting
    [ $((SECONDS - began)) -lt "$timeout" ] || fail "Not well after $timeout s: ${waiting//$'\n'/ }. \`make logs\` shows why."
    sleep 1
  done
  say "All services are healthy after $((SECONDS - began)) s."
}

start() { compose up -d --scale worker="$(setting WORKERS 1)"; }

up() {
  prepare
  say "Building the image; the first time this takes some minutes."
  compose build --quiet 2>/dev/null || compose build
  say "Starting."
  start
  wait_until_well
  say "Airflow: $(setting CHURN_AIRFLOW_UI_URL "http://127.0.0.1:$(setting CHURN_AIRFLOW_PORT 8080)")   user admin, password: AIRFLOW_ADMIN_PASSWORD in $env_file"
  say "MLflow:  $CHURN_MLFLOW_UI_URL   user admin, password: MLFLOW_ADMIN_PASSWORD in $env_file"
  say "\`make user NAME=vera ROLE=Viewer\` makes further users (Viewer, Op, Admin); \`make down\` ends the stack and keeps its data."
}

case "${1:-}" in
  up) up ;;
  *) fail "unknown command '${1:-}'" ;;
esac

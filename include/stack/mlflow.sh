#!/bin/sh
# MLflow's server behind its basic-auth app; include/stack/users.py makes its users.
set -eu
umask 077
export MLFLOW_AUTH_CONFIG_PATH=/tmp/auth.ini
cat >"$MLFLOW_AUTH_CONFIG_PATH" <<END
[mlflow]
default_permission = READ
database_uri = $MLFLOW_DATABASE
admin_username = admin
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
auth_cache_ttl_seconds = 60
END
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5005 --workers "$MLFLOW_WORKERS" \
  --backend-store-uri "$MLFLOW_DATABASE" --artifacts-destination "$MLFLOW_ARTIFACTS"

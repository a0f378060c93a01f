#!/bin/sh
# MLflow's server behind its basic-auth app: whoever logs in reads, and whoever made a thing may change it.
set -eu
umask 077
export MLFLOW_AUTH_CONFIG_PATH=/tmp/mlflow-auth.ini
python include/airflow/mlflow_users.py --configuration > "$MLFLOW_AUTH_CONFIG_PATH"
exec mlflow server --app-name basic-auth --host 0.0.0.0 --port 5005 --workers "$MLFLOW_WORKERS" \
    --backend-store-uri "$MLFLOW_DATABASE" --artifacts-destination "$MLFLOW_ARTIFACTS"

#!/bin/sh
# Roles and databases, then the migrations of all three, then the first users. Run again, it changes nothing.
set -eu
say() { echo "init: $*"; }

say "roles and databases"
python include/stack/databases.py
say "tables of Airflow"
airflow db migrate
say "tables of MLflow"
mlflow db upgrade "$MLFLOW_DATABASE"
say "tables of the ledger"
python -c 'from churn.foundation.ledger import open_ledger; from churn.settings import Settings; open_ledger(Settings.load().ledger_url)'
say "first users"
python include/stack/users.py
say "done"

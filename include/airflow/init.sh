#!/bin/sh
# Roles and databases, then the migrations of all three, then the first users. Run again, it changes nothing.
set -eu
echo "init: roles and databases"
python include/airflow/databases.py
echo "init: airflow"
airflow db migrate
echo "init: mlflow"
mlflow db upgrade "$MLFLOW_DATABASE"
python include/airflow/mlflow_users.py
echo "init: ledger"
python -c 'from churn.foundation.ledger import open_ledger; from churn.settings import Settings; open_ledger(Settings.load().ledger_url)'
echo "init: admin of airflow"
airflow users create --username admin --firstname Admin --lastname Admin --email admin@localhost --role Admin --password "$AIRFLOW_ADMIN_PASSWORD"
echo "init: done"

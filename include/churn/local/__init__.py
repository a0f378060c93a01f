"""`make run`: starts, watches and stops the local Airflow and MLflow."""

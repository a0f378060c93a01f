"""Everything that imports Airflow: task steps, approval, sensors, alerts, metrics, and the routes and links of the review."""

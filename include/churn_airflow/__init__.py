"""Everything that imports Airflow: task steps, approval, sensors, metrics, the routes and links of the review."""

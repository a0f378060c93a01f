"""Churn retraining: a batch arrives, is judged, trains a challenger, is compared, decided and released."""

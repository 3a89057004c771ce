"""MLflow: tracking, runs, model registry."""

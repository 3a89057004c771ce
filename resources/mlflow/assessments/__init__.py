"""Assessments on MLflow traces: feedback, reviews, review queues."""

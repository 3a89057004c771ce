"""Secrets in free text: what has a form, and what a sentence tells."""

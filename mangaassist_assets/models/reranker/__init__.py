"""Rerankers: trained, calibrated, chosen, served."""

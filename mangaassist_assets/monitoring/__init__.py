"""Monitoring: does a champion still answer as well as when it was promoted?"""

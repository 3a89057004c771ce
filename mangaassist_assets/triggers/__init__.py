"""Decisions of the sensors as plain functions of counts and cursors."""

"""Postal addresses in free text, by language."""

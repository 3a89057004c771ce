"""Person names in free text, by language."""

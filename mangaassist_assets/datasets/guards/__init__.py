"""What keeps a dataset fit: leakage, poisoning, near duplicates, label noise, health."""

"""How many labels are wrong, which ones to look at, and whose they are."""

"""Who labels: which people may, what others answered, and whose answers are held back."""

"""The warehouse in words that every database understands: tables as data, questions as SQL."""

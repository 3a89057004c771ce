"""The warehouse in words that every database understands: tables as data, rows as frames, questions as SQL."""

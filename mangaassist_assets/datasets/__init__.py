"""Utterance files, dataset versions, label sources, splits and the leakage guard."""

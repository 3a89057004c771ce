"""Labelling: which messages people are asked about, what they say, and how far their answers reach."""

"""From labels and messages to the rows of a dataset."""

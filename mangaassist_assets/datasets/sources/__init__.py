"""Files that people hand in: utterances and golden sets."""

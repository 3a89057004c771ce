"""Names of clusters: key terms, words, and titles that a language model proposes."""

"""The intent classifier."""

"""What the command line does, one module per command; `cli` only reads options and prints."""

"""The command line: options are read and results printed here; one module a command group in `commands`."""

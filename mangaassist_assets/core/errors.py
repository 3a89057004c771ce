"""The base of errors that the command line prints as one line, without a traceback."""


class OperatorError(Exception):
    """Its message says what was wrong, where, and what the person at the terminal can do."""

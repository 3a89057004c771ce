"""What an operator sets and sees: the environment's name, and errors that the command line prints as one line."""

from typing import Literal

Environment = Literal["local", "aws"]

ENVIRONMENT_VARIABLE = "MANGAASSIST_ENV"


class OperatorError(Exception):
    """Its message says what was wrong, where, and what the person at the terminal can do."""


class EnvironmentNameError(OperatorError):
    """MANGAASSIST_ENV names no environment."""


def parse_environment(value: str | None) -> Environment:
    """Return the environment that `value` names; none given is `local`.

    Raises:
        EnvironmentNameError: it is neither `local` nor `aws`.
    """
    if value is None or value in {"", "local"}:
        return "local"
    if value == "aws":
        return "aws"
    msg = f"{ENVIRONMENT_VARIABLE} is {value!r}; it must be 'local' or 'aws'"
    raise EnvironmentNameError(msg)

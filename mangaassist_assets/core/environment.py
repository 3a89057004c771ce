"""The environment's name, as the variable MANGAASSIST_ENV gives it."""

from typing import Literal

from mangaassist_assets.core.errors import OperatorError

Environment = Literal["local", "aws"]

ENVIRONMENT_VARIABLE = "MANGAASSIST_ENV"


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

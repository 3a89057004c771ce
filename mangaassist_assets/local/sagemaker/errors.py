"""Errors of the local SageMaker in the shape AWS gives them."""

from __future__ import annotations

from collections.abc import Mapping

ACCOUNT = "000000000000"


class ApiError(Exception):
    """An answer other than success: the error's code, its message and the HTTP status.

    `extra` are more members of the error's body, such as `OriginalStatusCode` of a ModelError.
    """

    def __init__(
        self, code: str, message: str, *, status: int = 400, extra: Mapping[str, object] | None = None
    ) -> None:
        self.code = code
        self.message = message
        self.status = status
        self.extra = dict(extra or {})
        super().__init__(f"{code}: {message}")


def validation(message: str) -> ApiError:
    """Return what SageMaker answers to wrong input, to names it does not know and to names that are taken."""
    return ApiError("ValidationException", message)


def unsupported(what: str) -> ApiError:
    """Return the answer to something that exists on AWS and not here."""
    return validation(f"{what} is not supported by the local SageMaker of MangaAssist.")


class DeploymentError(Exception):
    """A fleet could not be brought up; the message becomes the endpoint's FailureReason."""

"""How AWS is reached: one place for region, endpoint, credentials profile, retries and timeouts.

boto3 is imported by the first client, never while definitions load; that is also why dagster-aws, which imports it at
once, is not the base class here.
"""

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import dagster as dg
from pydantic import Field, PrivateAttr

from mangaassist_assets.core.errors import OperatorError

if TYPE_CHECKING:
    import boto3

T = TypeVar("T")


class DeadlineExceededError(OperatorError, TimeoutError):
    """Something that was waited for did not happen in time."""


class AwsResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out boto3 clients, made once per service and process."""

    region_name: str | None = Field(
        default=None, description="AWS region; empty leaves it to boto3 (AWS_DEFAULT_REGION, profile)."
    )
    endpoint_url: str | None = Field(
        default=None,
        description=(
            "Where every service is reached; empty leaves it to boto3 (AWS_ENDPOINT_URL, AWS_ENDPOINT_URL_<SERVICE>)."
        ),
    )
    profile_name: str | None = Field(default=None, description="Profile of the shared AWS configuration files.")
    max_attempts: int = Field(
        default=5, ge=1, le=20, description="Attempts of one call in boto3's standard retry mode."
    )
    connect_timeout_s: float = Field(default=5.0, gt=0, description="Seconds to wait for a connection.")
    read_timeout_s: float = Field(default=60.0, gt=0, description="Seconds to wait for an answer.")
    max_connections: int = Field(default=16, ge=1, description="Connections a client keeps open for its threads.")

    names_callers: bool = Field(
        default=False, description="Whether AWS is asked who the caller is (STS); stand-ins do not know."
    )

    _session: Any = PrivateAttr(default=None)
    _clients: dict[str, Any] = PrivateAttr(default_factory=dict)
    _lock: Any = PrivateAttr(default_factory=threading.Lock)

    def client(self, service: str) -> Any:  # noqa: ANN401  # each service has its own client type, see callers
        """Return the boto3 client of a service, for example `kinesis`; it may be used by several threads."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._make(service)
            return self._clients[service]

    def caller_arn(self) -> str | None:
        """Return the ARN of whoever calls AWS with these credentials; None where that is nobody's business to ask.

        Where STS cannot be reached the answer says so: who promotes a model should not hang on it.
        """
        if not self.names_callers:
            return None
        from botocore.exceptions import BotoCoreError, ClientError
        from botocore.parsers import ResponseParserError

        try:
            return str(self.client("sts").get_caller_identity()["Arn"])
        except (BotoCoreError, ClientError, ResponseParserError) as error:
            # The last is what a proxy's page becomes.
            return f"unknown: STS could not be asked ({type(error).__name__})"

    def _make(self, service: str) -> object:
        from botocore.config import Config

        config = Config(
            retries={"mode": "standard", "total_max_attempts": self.max_attempts},
            connect_timeout=self.connect_timeout_s,
            read_timeout=self.read_timeout_s,
            max_pool_connections=self.max_connections,
        )
        return self._boto3_session().client(service, config=config, endpoint_url=self.endpoint_url)  # type: ignore[call-overload]

    def _boto3_session(self) -> "boto3.Session":
        if self._session is None:
            import boto3

            self._session = boto3.Session(region_name=self.region_name, profile_name=self.profile_name)
        session: boto3.Session = self._session
        return session


def error_code(error: Exception) -> str:
    """Return the AWS error code of a botocore ClientError (`ResourceNotFoundException`), or ''."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def error_message(error: Exception) -> str:
    """Return the AWS error message of a botocore ClientError, or the error's own text."""
    response = getattr(error, "response", None)
    return str(response.get("Error", {}).get("Message", error)) if isinstance(response, dict) else str(error)


def poll_until(condition: Callable[[], T | None], *, what: str, timeout_s: float, interval_s: float) -> T:
    """Ask again and again until `condition` returns something.

    Args:
        condition: Returns what was waited for, or None while it is not there.
        what: What is waited for, for the error.
        timeout_s: Seconds after which DeadlineExceededError is raised; it is asked at least once.
        interval_s: Seconds between two questions.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if found is not None:
            return found
        if time.monotonic() + interval_s > deadline:
            raise DeadlineExceededError(f"waited {timeout_s:g} s in vain for {what}")
        time.sleep(interval_s)

"""The data plane of AppConfig: the documents in force, for a chatbot that runs."""

import threading
import time
from typing import TYPE_CHECKING

from mangaassist_assets.chatbot.documents import (
    Document,
    DocumentT,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
    parse_document,
)
from mangaassist_assets.chatbot.parts import StageError
from mangaassist_assets.chatbot.profiles import PROFILES
from resources.aws import AwsResource, error_message

if TYPE_CHECKING:
    from mypy_boto3_appconfigdata import AppConfigDataClient


class ConfigurationPoller:
    """Reads the documents in force from the data plane; serves several threads.

    AppConfig's rules: each token is good for one call, an empty body means unchanged, and the service says how long to
    wait before the next call. A poll that fails keeps the document that was read before.
    """

    def __init__(self, aws: AwsResource, *, application: str, environment: str) -> None:
        self._aws = aws
        self._application = application
        self._environment = environment
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._documents: dict[str, Document] = {}
        self._poll_at: dict[str, float] = {}
        self._failures: dict[str, str] = {}

    def prompts(self) -> PromptsDocument:
        """Return the prompts in force."""
        return _typed(self._current("prompts"), PromptsDocument)

    def routing(self) -> RoutingDocument:
        """Return the routing policy in force."""
        return _typed(self._current("routing"), RoutingDocument)

    def guardrails(self) -> GuardrailsDocument:
        """Return the guardrail ruleset in force."""
        return _typed(self._current("guardrails"), GuardrailsDocument)

    def refresh(self) -> None:
        """Poll all profiles now, whatever the service said about waiting; `failures` tells what could not be read."""
        with self._lock:
            for profile in PROFILES:
                self._poll(profile)

    @property
    def failures(self) -> dict[str, str]:
        """Why the last poll of a profile failed, by profile; empty when all is well."""
        with self._lock:
            return dict(self._failures)

    def _current(self, profile: str) -> Document:
        with self._lock:
            if time.monotonic() >= self._poll_at.get(profile, 0.0):
                self._poll(profile)
            document = self._documents.get(profile)
            if document is None:
                reason = self._failures.get(profile, "nothing is deployed")
                raise StageError(f"no {profile} configuration can be read: {reason}; run bootstrap, then try again")
            return document

    def _poll(self, profile: str) -> None:
        """Poll once; a failure is remembered and does not take the document away that was in force."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            body, interval = self._latest(profile)
            if body:
                self._documents[profile] = parse_document(profile, body)
            self._failures.pop(profile, None)
        except (ClientError, BotoCoreError, ValueError) as error:
            # The token may have been used up by the call that failed: start over with a new session.
            self._tokens.pop(profile, None)
            self._failures[profile] = error_message(error)
            interval = 5.0
        self._poll_at[profile] = time.monotonic() + interval

    def _latest(self, profile: str) -> tuple[bytes, float]:
        client: AppConfigDataClient = self._aws.client("appconfigdata")
        token = self._tokens.pop(profile, None)
        if token is None:
            token = client.start_configuration_session(
                ApplicationIdentifier=self._application,
                EnvironmentIdentifier=self._environment,
                ConfigurationProfileIdentifier=profile,
            )["InitialConfigurationToken"]
        answer = client.get_latest_configuration(ConfigurationToken=token)
        self._tokens[profile] = answer["NextPollConfigurationToken"]
        return answer["Configuration"].read(), float(answer.get("NextPollIntervalInSeconds", 60))


def _typed(document: Document, model: type[DocumentT]) -> DocumentT:
    if not isinstance(document, model):
        raise StageError(f"configuration holds a {type(document).__name__} where a {model.__name__} belongs")
    return document

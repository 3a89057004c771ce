"""The data plane of AppConfig: the documents in force, for a chatbot that runs."""

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from mangaassist_assets.chatbot.configuration.documents import (
    Document,
    DocumentT,
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
    parse_document,
)
from mangaassist_assets.chatbot.configuration.fields import ConfigurationDocumentError
from mangaassist_assets.chatbot.configuration.profiles import OPTIONAL_PROFILES, PROFILES, ProfileName
from mangaassist_assets.chatbot.parts import StageError
from resources.aws.clients import AwsResource, error_code, error_message

if TYPE_CHECKING:
    from mypy_boto3_appconfigdata import AppConfigDataClient

_LOGGER = logging.getLogger(__name__)
_NEVER_DEPLOYED = frozenset({"ResourceNotFoundException", "BadRequestException"})
_AFTER_A_FAILURE_S = 5.0
_WITHOUT_A_PROFILE_S = 60.0

_NO_EXPERIMENTS = ExperimentsDocument(version="none")

LastGood = Callable[[str], Document | None]


class ConfigurationPoller:
    """Reads the documents in force from the data plane; serves several threads.

    AppConfig's rules: each token is good for one call, an empty body means unchanged, and the service says how long to
    wait before the next call. A poll that fails, or that brings a document which is not valid, keeps the document that
    was read before. Where there is none before, because the process has just started, `last_good` is asked for the
    newest valid one that was ever in force.
    """

    def __init__(
        self, aws: AwsResource, *, application: str, environment: str, last_good: LastGood = lambda _: None
    ) -> None:
        self._aws = aws
        self._application = application
        self._environment = environment
        self._last_good = last_good
        self._lock = threading.Lock()
        self._tokens: dict[str, str] = {}
        self._documents: dict[str, Document] = {}
        self._poll_at: dict[str, float] = {}
        self._failures: dict[str, str] = {}
        self._refused: dict[str, str] = {}

    def prompts(self) -> PromptsDocument:
        """Return the prompts in force."""
        return _typed(self._current("prompts"), PromptsDocument)

    def routing(self) -> RoutingDocument:
        """Return the routing policy in force."""
        return _typed(self._current("routing"), RoutingDocument)

    def guardrails(self) -> GuardrailsDocument:
        """Return the guardrail ruleset in force."""
        return _typed(self._current("guardrails"), GuardrailsDocument)

    def experiments(self) -> ExperimentsDocument:
        """Return the experiments in force; none where the profile was never deployed or cannot be used.

        The store answers without experiments, but not without prompts.
        """
        with self._lock:
            document = self._polled("experiments")
        return _NO_EXPERIMENTS if document is None else _typed(document, ExperimentsDocument)

    def refresh(self) -> None:
        """Poll all profiles now, whatever the service said about waiting; `failures` names what could not be read."""
        with self._lock:
            for profile in PROFILES:
                self._poll(profile)

    @property
    def failures(self) -> dict[str, str]:
        """Why the newest document of a profile is not the one in use, by profile; empty when all is well.

        A document that was refused stays here until a valid one is deployed, however often it is polled.
        """
        with self._lock:
            return self._refused | self._failures

    def _current(self, profile: ProfileName) -> Document:
        with self._lock:
            document = self._polled(profile)
            if document is None:
                raise StageError(self._why_none(profile))
            return document

    def _polled(self, profile: ProfileName) -> Document | None:
        if time.monotonic() >= self._poll_at.get(profile, 0.0):
            self._poll(profile)
        return self._documents.get(profile)

    def _why_none(self, profile: str) -> str:
        if profile in self._refused:
            return (
                f"no {profile} configuration can be used: {self._refused[profile]}; no earlier version serves, deploy "
                "one that is valid"
            )
        reason = self._failures.get(profile, "nothing is deployed")
        return f"no {profile} configuration can be read: {reason}; run bootstrap, then try again"

    def _poll(self, profile: ProfileName) -> None:
        """Poll once; a failure is remembered and does not take the document away that was in force."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            body, interval = self._latest(profile)
        except (ClientError, BotoCoreError) as error:
            # The token may have been used up by the call that failed: start over with a new session.
            self._tokens.pop(profile, None)
            interval = _AFTER_A_FAILURE_S
            if profile in OPTIONAL_PROFILES and error_code(error) in _NEVER_DEPLOYED:
                interval = _WITHOUT_A_PROFILE_S
                self._failures.pop(profile, None)
            else:
                reason = error_message(error)
                if self._failures.get(profile) != reason:
                    _LOGGER.warning("AppConfig: profile %s could not be polled: %s", profile, reason)
                self._failures[profile] = reason
        else:
            self._failures.pop(profile, None)
            if body:
                self._take(profile, body)
        self._poll_at[profile] = time.monotonic() + interval

    def _take(self, profile: str, body: bytes) -> None:
        """Put a document into use, or keep the one before it and say why."""
        try:
            self._documents[profile] = parse_document(profile, body)
        except ConfigurationDocumentError as error:
            # The error names every field, and no value of the document.
            self._refused[profile] = str(error)
            self._use_earlier(profile)
            serving = self._documents.get(profile)
            _LOGGER.warning(
                "AppConfig: %s; %s", error, f"version {serving.version} still serves" if serving else "none serves"
            )
        else:
            self._refused.pop(profile, None)

    def _use_earlier(self, profile: str) -> None:
        from botocore.exceptions import BotoCoreError, ClientError

        if profile in self._documents:
            return
        try:
            earlier = self._last_good(profile)
        except (ClientError, BotoCoreError) as error:
            # A chatbot's role often reaches the data plane only.
            self._refused[profile] += f"; earlier versions could not be read: {error_message(error)}"
            return
        if earlier is not None:
            self._documents[profile] = earlier

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

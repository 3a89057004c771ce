"""Experiments: which arm a shopper is in, and what the configuration is for that arm.

The tag `experiment_id` says `EXPERIMENT:ARM`, several joined by a comma, `none` where no experiment runs.
"""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from mangaassist_assets.chatbot.configuration.documents import (
    Arm,
    Configuration,
    Experiment,
    ExperimentsDocument,
    GuardrailsDocument,
    PromptsDocument,
    RoutingDocument,
    overlay,
)
from mangaassist_assets.chatbot.configuration.fields import ConfigurationDocumentError, Problem
from mangaassist_assets.tracing.contract.names import NO_EXPERIMENT

_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnConfiguration:
    """What one turn runs with. An endpoint of None is the champion's."""

    prompts: PromptsDocument
    routing: RoutingDocument
    guardrails: GuardrailsDocument
    experiment_id: str = NO_EXPERIMENT
    intent_endpoint: str | None = None
    reranker_endpoint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningExperiments:
    """The experiments that can run over the documents in force, and why the others cannot.

    `arms` are the arms of each experiment by name, laid over the documents; an experiment with one arm that cannot be
    is left out whole, or its arms would no longer be comparable.
    """

    arms: Mapping[str, Mapping[str, TurnConfiguration]]
    problems: tuple[Problem, ...]


def arm_of(experiment: str, shares: Mapping[str, float], unit: str) -> str:
    """Return the arm of a shopper or session: the same for ever, in proportion to the shares.

    Weighted rendezvous hashing (Schindelhauer and Schomaker 2005, "Weighted distributed hash tables", logarithmic
    method): each arm draws by a hash of experiment, arm and unit, and the least wins. A changed share or a new arm
    moves no more units than it must, and another experiment draws independently.

    Args:
        experiment: Name of the experiment.
        shares: Share of each arm; an arm of share 0 gets nobody.
        unit: Key of the shopper or session.
    """

    def draw(arm: str) -> float:
        digest = hashlib.sha256(f"{experiment}\0{arm}\0{unit}".encode()).digest()
        return -math.log((int.from_bytes(digest[:8], "big") + 1) / 2**64) / shares[arm]

    return min((arm for arm in sorted(shares) if shares[arm] > 0), key=draw)


def run_experiments(experiments: ExperimentsDocument, base: TurnConfiguration) -> RunningExperiments:
    """Lay the arms of all enabled experiments over the documents in force."""
    arms: dict[str, dict[str, TurnConfiguration]] = {}
    problems: list[Problem] = []
    for name, experiment in experiments.experiments.items():
        if not experiment.enabled:
            continue
        laid: dict[str, TurnConfiguration] = {}
        for arm_name, arm in experiment.arms.items():
            try:
                laid[arm_name] = _lay(arm, base)
            except ConfigurationDocumentError as error:
                place = f"experiments.{name}.arms.{arm_name}.{error.profile}"
                problems += [
                    Problem(field=f"{place}.{one.field}" if one.field else place, reason=one.reason)
                    for one in error.problems
                ]
        if len(laid) == len(experiment.arms):
            arms[name] = laid
    return RunningExperiments(arms=arms, problems=tuple(problems))


class TurnConfigurations:
    """Gives each turn its configuration. Serves several threads."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        # One slot, replaced whole: the arms are laid anew only when a document changed.
        self._laid: tuple[tuple[object, ...], RunningExperiments] | None = None

    def of(self, prompts: PromptsDocument, *, user_key: str | None, session_id: str) -> TurnConfiguration:
        """Return the configuration of a shopper's turn; raises StageError where a document cannot be had."""
        base = TurnConfiguration(
            prompts=prompts, routing=self._configuration.routing(), guardrails=self._configuration.guardrails()
        )
        document = self._configuration.experiments()
        running = self._running(document, base)
        turn, ids = base, []
        for name in sorted(running.arms):
            experiment = document.experiments[name]
            arm = assigned_arm(name, experiment, user_key=user_key, session_id=session_id)
            ids.append(f"{name}:{arm}")
            turn = _with_overrides(turn, experiment.arms[arm], running.arms[name][arm])
        return replace(turn, experiment_id=",".join(ids) or NO_EXPERIMENT)

    def _running(self, document: ExperimentsDocument, base: TurnConfiguration) -> RunningExperiments:
        documents = (document, base.prompts, base.routing, base.guardrails)
        known = self._laid
        if known is not None and all(one is other for one, other in zip(known[0], documents, strict=True)):
            return known[1]
        running = run_experiments(document, base)
        for problem in running.problems:
            _LOGGER.warning("an experiment does not run, %s", problem)
        self._laid = (documents, running)
        return running


def assigned_arm(name: str, experiment: Experiment, *, user_key: str | None, session_id: str) -> str:
    """Return the arm of a turn. The unit is the pseudonym that the trace carries, so anybody can check it."""
    by_session = experiment.assign_by == "session" or user_key is None
    unit = f"session {session_id}" if by_session else f"shopper {user_key}"
    return arm_of(name, {arm: one.share for arm, one in experiment.arms.items()}, unit)


def _lay(arm: Arm, base: TurnConfiguration) -> TurnConfiguration:
    return replace(
        base,
        prompts=base.prompts if arm.prompts is None else overlay(base.prompts, arm.prompts),
        routing=base.routing if arm.routing is None else overlay(base.routing, arm.routing),
        guardrails=base.guardrails if arm.guardrails is None else overlay(base.guardrails, arm.guardrails),
        intent_endpoint=arm.intent_endpoint,
        reranker_endpoint=arm.reranker_endpoint,
    )


def _with_overrides(turn: TurnConfiguration, arm: Arm, laid: TurnConfiguration) -> TurnConfiguration:
    """Return the turn with what this arm replaces; no two running experiments replace the same part."""
    return replace(
        turn,
        prompts=turn.prompts if arm.prompts is None else laid.prompts,
        routing=turn.routing if arm.routing is None else laid.routing,
        guardrails=turn.guardrails if arm.guardrails is None else laid.guardrails,
        intent_endpoint=arm.intent_endpoint or turn.intent_endpoint,
        reranker_endpoint=arm.reranker_endpoint or turn.reranker_endpoint,
    )

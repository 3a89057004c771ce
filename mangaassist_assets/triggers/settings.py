"""What counts as a rise of thumbs-downs, who may say so, and how soon again: the settings of the feedback trigger."""

from __future__ import annotations

import math
import tomllib
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import canonical_json

if TYPE_CHECKING:
    from pathlib import Path

    from upath import UPath

SETTINGS_FILE = "triggers.toml"
"""In the folder of the store that people hand things in by: it needs no deployment."""
_SECTION = "feedback"


class TriggerSettingsError(OperatorError, ValueError):
    """A settings file that cannot be used; the message names the file and what of it is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerConfig:
    """Settings of the feedback trigger.

    Attributes:
        run_length: Starts (blocks of votes) that pass on average before a bundle fires without a rise, all its streams
            together; 10,000 blocks of 20 are 200,000 votes. Evidence is compared with this over a stream's weight.
        overall_weight: Weight of the bundle's own stream; intents, clusters and stages share the rest equally.
        block_votes: A rise may begin with every so many-th vote.
        window_votes: Votes of a bundle in which a rise is looked for; older ones are what it is compared with.
        odds: Factors of the odds of a thumbs-down that are looked for.
        minimum_votes: Votes since the rise that it takes, weighted.
        minimum_shoppers: Different shoppers with a thumbs-down since the rise that it takes.
        minimum_rise: By how much the share must have risen.
        minimum_reference: Votes before a rise that it takes to compare with.
        reference_votes: No more votes before a rise are reckoned with: bundles differ a little by themselves.
        long_run_votes: Votes of the long run that the previous bundle's are shrunk by.
        expected_share: Share of thumbs-downs that a bundle is compared with while no bundle is known; none lets the
            first bundle's own first votes be the measure.
        expected_votes: How many votes `expected_share` is worth.
        shopper_votes: Votes of one shopper that count in a window.
        session_votes: Votes of one session that count in a window.
        shopper_correlation: How much the votes of one shopper resemble each other, 0 to 1.
        left_out_share: Share of the shoppers, the fiercest, without whom the rise must still show: so many may collude.
        left_out_evidence: Likelihood ratio that it must still have without them.
        cooldown_hours: Hours after a firing in which the bundle does not fire again.
        confound_hours: A change of production so many hours before the rise may be its cause.
        hold_hours: Hours for which a retraining is held because of such a change.
        bundles: Bundles, those with the newest votes, that are watched.
        waiting_votes: Votes of bundles or turns that are not known yet that are remembered.
        silent_minutes: Minutes without an evaluation after which the trigger is called silent.
    """

    run_length: float = 10_000.0
    overall_weight: float = 0.75
    block_votes: int = 20
    window_votes: int = 2_000
    odds: tuple[float, ...] = (1.5, 2.0, 3.0, 5.0)
    minimum_votes: float = 30.0
    minimum_shoppers: int = 15
    minimum_rise: float = 0.03
    minimum_reference: float = 100.0
    reference_votes: float = 5_000.0
    long_run_votes: float = 50.0
    expected_share: float | None = None
    expected_votes: float = 100.0
    shopper_votes: int = 5
    session_votes: int = 3
    shopper_correlation: float = 0.1
    left_out_share: float = 0.05
    left_out_evidence: float = 100.0
    cooldown_hours: float = 24.0
    confound_hours: float = 24.0
    hold_hours: float = 72.0
    bundles: int = 8
    waiting_votes: int = 5_000
    silent_minutes: float = 15.0

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            ValueError: names the setting.
        """
        positive = {one.name for one in fields(self)} - {
            *("odds", "expected_share", "shopper_correlation", "left_out_share", "cooldown_hours", "confound_hours"),
            *("hold_hours", "minimum_rise"),
        }
        for name in sorted(positive):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be more than 0, not {getattr(self, name)}")
        for name in ("cooldown_hours", "confound_hours", "hold_hours", "minimum_rise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be less than 0, and is {getattr(self, name)}")
        for name in ("shopper_correlation", "left_out_share", "expected_share"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} must lie between 0 and 1, not {value}")
        if not self.overall_weight <= 1:
            raise ValueError(f"overall_weight must be at most 1, not {self.overall_weight}")
        if not self.odds or min(self.odds) <= 1:
            raise ValueError(f"odds must be factors over 1, not {list(self.odds)}")
        if self.window_votes < 2 * self.block_votes:
            raise ValueError(f"window_votes must be two blocks at least, {2 * self.block_votes}")

    def needed_evidence(self, weight: float) -> float:
        """Return the evidence at which a stream of a weight fires."""
        return self.run_length / weight


def read_settings(path: Path | UPath) -> TriggerConfig:
    """Return the settings of a TOML file, its table `[feedback]`; what it does not name has its default.

    Raises:
        TriggerSettingsError: The file is no TOML, or a setting is unknown, of another type or makes no sense.
    """
    try:
        content = tomllib.loads(path.read_text("utf-8"))
        unknown = sorted(set(content) - {_SECTION})
        if unknown:
            raise TriggerSettingsError(f"{path}: there is no table [{unknown[0]}], only [{_SECTION}]")
        section = content.get(_SECTION, {})
        odd = [name for name, value in section.items() if isinstance(value, float) and not math.isfinite(value)]
        if odd:
            raise TriggerSettingsError(f"{path}: {odd[0]} is no number: {section[odd[0]]}")
        return from_json(TriggerConfig, canonical_json(section))
    except (OSError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, TriggerSettingsError):
            raise
        reason = "; ".join(_reasons(error)) or str(error)
        raise TriggerSettingsError(f"{path}: {reason}") from error


def _reasons(error: Exception) -> list[str]:
    from pydantic import ValidationError

    if not isinstance(error, ValidationError):
        return []
    return [f"{'.'.join(map(str, one['loc']))} {one['msg']}".strip() for one in error.errors()]

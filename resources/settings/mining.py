"""The rules of failure mining as a resource: the packaged ones, or a file of one's own."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from mangaassist_assets.mining.blame.rules import MiningRules

RULES_VARIABLE = "MANGAASSIST_MINING_RULES"


class MiningResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out what makes a turn a failure and which stage it is blamed on."""

    path: str | None = Field(
        default=None,
        description="TOML file of rules in the form of mining/failure_rules.toml, in place of it; empty takes "
        "MANGAASSIST_MINING_RULES, and the packaged rules where that is empty too.",
    )

    def rules(self) -> "MiningRules":
        """Return the rules in force.

        Raises:
            MiningRulesError: The file is no rules file; names the key.
        """
        from mangaassist_assets.mining.blame.rules import read_rules

        path = self.path or os.environ.get(RULES_VARIABLE) or None
        return read_rules(Path(path) if path else None)

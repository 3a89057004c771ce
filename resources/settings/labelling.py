"""Whose reviews count, and which intents are declared."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from collections.abc import Sequence

    from upath import UPath

    from mangaassist_assets.labelling.people.acceptances import Acceptance
    from mangaassist_assets.labelling.people.policy import LabellingPolicy

REVIEWERS_VARIABLE = "MANGAASSIST_REVIEWERS"
INTENTS_VARIABLE = "MANGAASSIST_INTENTS"


class LabellingResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out who may label, and which new intents count from their first review."""

    reviewers: list[str] = Field(
        default=[],
        description="People whose reviews count, by the name that the source of their MLflow assessments carries, in "
        "any case; `unknown` is who answers without a name. Answers of others are kept and counted, never used. Empty "
        "takes MANGAASSIST_REVIEWERS, names between commas; where that is empty too, everybody's reviews count.",
    )
    intents_file: str | None = Field(
        default=None,
        description="Text file of the declared intents, one name a line, `#` begins a comment. Empty takes "
        "MANGAASSIST_INTENTS, and inputs/intents.txt of the store, which `mangaassist bootstrap --intents` writes. "
        "With such a file a new name waits until it is in it or accepted (`mangaassist labels accept-intent`); without "
        "any, it counts at once where reviewers are listed, else once the messages of two shoppers need it.",
    )

    def policy(self, inputs: "UPath", acceptances: "Sequence[Acceptance]") -> "LabellingPolicy":
        """Return whose reviews count and which intents are declared.

        Args:
            inputs: The store's folder of what people hand in.
            acceptances: What was accepted since.

        Raises:
            CatalogueError: The file of intents is not there or cannot be used; names the line.
        """
        from mangaassist_assets.labelling.people.acceptances import accepted_names
        from mangaassist_assets.labelling.people.policy import CATALOGUE_FILE, LabellingPolicy, read_catalogue_file

        named = self.intents_file or os.environ.get(INTENTS_VARIABLE) or None
        handed_in = inputs / CATALOGUE_FILE
        file = Path(named) if named else handed_in if handed_in.exists() else None
        return LabellingPolicy(
            reviewers=self.named_reviewers(),
            catalogue=None if file is None else read_catalogue_file(file),
            accepted_intents=accepted_names(acceptances, "intent"),
            vouched_reviewers=accepted_names(acceptances, "reviewer"),
        )

    def named_reviewers(self) -> tuple[str, ...]:
        """Return the people whose reviews count; nobody stands for everybody."""
        named = self.reviewers or os.environ.get(REVIEWERS_VARIABLE, "").split(",")
        return tuple(dict.fromkeys(name.strip() for name in named if name.strip()))

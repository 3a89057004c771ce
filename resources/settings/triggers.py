"""What counts as a rise of thumbs-downs: the packaged settings, a file of one's own, or one in the store."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

if TYPE_CHECKING:
    from upath import UPath

    from mangaassist_assets.triggers.settings import TriggerConfig

TRIGGERS_VARIABLE = "MANGAASSIST_TRIGGERS"


class TriggersResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out the settings of the feedback trigger, read at each look: to change them needs no deployment."""

    path: str | None = Field(
        default=None,
        description="TOML file with a table [feedback] of settings as in docs/triggers.md. Empty takes "
        "MANGAASSIST_TRIGGERS, then inputs/triggers.toml of the store, then the defaults.",
    )

    def feedback(self, inputs: "UPath") -> "TriggerConfig":
        """Return the settings in force; `inputs` is the store's folder of what people hand in.

        Raises:
            TriggerSettingsError: The file cannot be used; names the setting.
        """
        from mangaassist_assets.triggers.settings import SETTINGS_FILE, TriggerConfig, read_settings

        named = self.path or os.environ.get(TRIGGERS_VARIABLE) or None
        handed_in = inputs / SETTINGS_FILE
        file = Path(named) if named else handed_in if handed_in.exists() else None
        return TriggerConfig() if file is None else read_settings(file)

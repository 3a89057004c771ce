"""Names of the chatbot's configuration in AppConfig. Resources read them while definitions load: nothing heavy here."""

from typing import Final, Literal

ProfileName = Literal["prompts", "routing", "guardrails", "experiments"]

APPLICATION: Final = "mangaassist"
ENVIRONMENT: Final = "production"
PROFILES: Final[tuple[ProfileName, ...]] = ("prompts", "routing", "guardrails", "experiments")
OPTIONAL_PROFILES: Final[frozenset[str]] = frozenset({"experiments"})
"""The profiles a chatbot runs without: where none was ever deployed, no experiment runs."""

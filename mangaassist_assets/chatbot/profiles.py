"""Names of the chatbot's configuration in AppConfig. Resources read them while definitions load: nothing heavy here."""

from typing import Final, Literal

ProfileName = Literal["prompts", "routing", "guardrails"]

APPLICATION: Final = "mangaassist"
ENVIRONMENT: Final = "production"
PROFILES: Final[tuple[ProfileName, ...]] = ("prompts", "routing", "guardrails")

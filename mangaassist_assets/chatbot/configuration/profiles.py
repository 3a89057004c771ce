"""Names of the chatbot's configuration in AppConfig. Resources read them while definitions load: nothing heavy here."""

from typing import Final, Literal

ProfileName = Literal["prompts", "routing", "guardrails", "experiments"]

APPLICATION: Final = "mangaassist"
ENVIRONMENT: Final = "production"
PROFILES: Final[tuple[ProfileName, ...]] = ("prompts", "routing", "guardrails", "experiments")
PROFILE_ASSETS: Final[dict[str, str]] = {
    "prompts": "prompt_config",
    "routing": "routing_config",
    "guardrails": "guardrail_config",
    "experiments": "experiment_config",
}
"""The external asset that stands for a profile in the graph; each version in force is a version of its data."""
OPTIONAL_PROFILES: Final[frozenset[str]] = frozenset({"experiments"})
"""The profiles a chatbot runs without: where none was ever deployed, no experiment runs."""

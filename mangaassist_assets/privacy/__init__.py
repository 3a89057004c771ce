"""Redaction of personal data in free text, English and Japanese, before anything is written.

`redact` is pure, never raises and takes linear time: every pattern starts at a boundary or a literal and repeats
without backtracking (possessive or bounded), so 100 kB of hostile text costs milliseconds. What it finds becomes a
placeholder that no pattern matches again, which makes it idempotent.

Bare cities, countries, organisations, dates and links stay: they decide what a shop answers and name nobody by
themselves. A date stays unless it is called a birthday.
"""

from mangaassist_assets.privacy.conversation import conversation_key, plain_placeholders
from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.identifiers import (
    is_generated,
    is_personal_id,
    is_pseudonym,
    kept_id,
    pseudonym,
    shopper_of,
    user_key,
)
from mangaassist_assets.privacy.profile_text import is_profile_key
from mangaassist_assets.privacy.prompts import PromptRecord, prompt_record, redact_json
from mangaassist_assets.privacy.redaction import (
    RedactedText,
    find_personal_data,
    redact,
    residual,
)
from mangaassist_assets.privacy.vocabulary import Vocabulary

__all__ = [
    "Detection",
    "Kind",
    "PromptRecord",
    "RedactedText",
    "Vocabulary",
    "conversation_key",
    "find_personal_data",
    "is_generated",
    "is_personal_id",
    "is_profile_key",
    "is_pseudonym",
    "kept_id",
    "plain_placeholders",
    "prompt_record",
    "pseudonym",
    "redact",
    "redact_json",
    "residual",
    "shopper_of",
    "user_key",
]

"""Redaction of personal data and secrets in free text, English and Japanese, before anything is written.

`redact` is pure, never raises and takes linear time: every pattern starts at a boundary or a literal and repeats
without backtracking (possessive or bounded), so 100 kB of hostile text costs milliseconds. What it finds becomes a
placeholder that no pattern matches again, which makes it idempotent.

Bare cities, countries, organisations, dates and links stay: they decide what a shop answers and name nobody by
themselves. A date stays unless it is called a birthday.
"""

from mangaassist_assets.privacy.conversation import conversation_key, plain_placeholders
from mangaassist_assets.privacy.detections import Detection, Kind
from mangaassist_assets.privacy.field_names import field_kind
from mangaassist_assets.privacy.identifiers import (
    is_generated,
    is_personal_id,
    is_pseudonym,
    kept_id,
    pseudonym,
    shopper_of,
    user_key,
)
from mangaassist_assets.privacy.prompts import PromptRecord, clear_named_fields, prompt_record, redact_json
from mangaassist_assets.privacy.redaction import (
    RedactedText,
    find_personal_data,
    redact,
    redact_number,
    residual,
)
from mangaassist_assets.privacy.vocabulary import Vocabulary

__all__ = [
    "Detection",
    "Kind",
    "PromptRecord",
    "RedactedText",
    "Vocabulary",
    "clear_named_fields",
    "conversation_key",
    "field_kind",
    "find_personal_data",
    "is_generated",
    "is_personal_id",
    "is_pseudonym",
    "kept_id",
    "plain_placeholders",
    "prompt_record",
    "pseudonym",
    "redact",
    "redact_json",
    "redact_number",
    "residual",
    "shopper_of",
    "user_key",
]

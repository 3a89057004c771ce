"""The secret that turns people's ids into pseudonyms: one per installation, never logged, never stored beside data."""

from pathlib import Path

import dagster as dg
from pydantic import Field

from mangaassist_assets.core.errors import OperatorError

_BYTES = 32


class PseudonymKeyError(OperatorError, ValueError):
    """There is no usable pseudonym key; the message says what to do and never holds a part of the key."""


class PrivacyResource(dg.ConfigurableResource):  # type: ignore[type-arg]
    """Hands out the pseudonym key, from a variable (a deployment's secret) or from a file (the home's)."""

    key: str = Field(
        default="",
        description="The key in hexadecimal, 32 bytes: an EnvVar that Secrets Manager fills, never a literal.",
    )
    key_file: str = Field(default="", description="File that holds the key in hexadecimal; used where `key` is empty.")

    def pseudonym_key(self) -> bytes:
        """Return the key.

        Raises:
            PseudonymKeyError: There is none, or it is not 32 bytes in hexadecimal.
        """
        text = self.key or self._from_file()
        try:
            key = bytes.fromhex(text.strip())
        except ValueError:
            key = b""
        if len(key) != _BYTES:
            where = "MANGAASSIST_PSEUDONYM_KEY" if self.key else self.key_file
            raise PseudonymKeyError(
                f"{where} does not hold {_BYTES} bytes in hexadecimal (`openssl rand -hex {_BYTES}`)"
            )
        return key

    def _from_file(self) -> str:
        if not self.key_file:
            raise PseudonymKeyError(
                "no pseudonym key is known: set MANGAASSIST_PSEUDONYM_KEY to the secret the chatbot uses, so that the "
                "same shopper has the same pseudonym everywhere"
            )
        try:
            return Path(self.key_file).read_text("ascii")
        except (OSError, UnicodeDecodeError) as error:
            raise PseudonymKeyError(
                f"the pseudonym key {self.key_file} cannot be read: {type(error).__name__}"
            ) from error

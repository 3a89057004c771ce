"""From texts to arrays of token numbers, without torch: what training and serving both do before a network sees a text.

A text becomes what Hugging Face's tokenizers make of it with `truncation=True`. Only of a text longer than any that
fits, white space is drawn together and the end left away before it is tokenized, so that 100 kB or 20,000 spaces cost
no more than what is kept of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

TOKENIZER_FILE = "tokenizer.json"

Ids = NDArray[np.int64]
Mask = NDArray[np.bool_]

# A token is rarely longer than this.
_CHARACTERS_PER_TOKEN = 16
# As many characters are looked at for those that are kept.
_CHARACTERS_READ = 20_000


class TokenizerError(ValueError):
    """A tokenizer cannot be read, or lacks what is needed; the message names the file."""


def load_tokenizer(source: Path | bytes) -> Tokenizer:
    """Load a tokenizer.json, the file or its content, without the fixed padding and truncation that one may carry.

    Raises:
        TokenizerError: The file is missing, or holds no tokenizer.
    """
    from tokenizers import Tokenizer

    try:
        tokenizer: Tokenizer = (
            Tokenizer.from_buffer(source) if isinstance(source, bytes) else Tokenizer.from_file(str(source))
        )
    except Exception as error:
        # The library raises nothing more special.
        where = source if isinstance(source, Path) else "tokenizer.json"
        raise TokenizerError(f"{where} holds no tokenizer of Hugging Face's form: {str(error)[:200]}") from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def pad_id(tokenizer: Tokenizer) -> int:
    """Return the number of the token that fills up shorter texts: 0 for BERT, 1 for RoBERTa and XLM-R.

    Raises:
        TokenizerError: No special token is made for it.
    """
    for number, token in sorted(tokenizer.get_added_tokens_decoder().items()):
        if token.content.strip("<[|]>").lower() == "pad":
            return int(number)
    for name in ("[PAD]", "<pad>"):
        if (found := tokenizer.token_to_id(name)) is not None:
            return int(found)
    raise TokenizerError("the tokenizer has no token for padding, such as [PAD] or <pad>: it is of no encoder")


def clean_text(text: str, *, max_tokens: int) -> str:
    """Return the part of a text that can reach the encoder, as valid Unicode.

    Lone surrogates, which JSON can carry and no tokenizer takes, become question marks. A text of more characters than
    `max_tokens` can hold loses its end, and the white space between its words becomes single spaces.
    """
    most = max_tokens * _CHARACTERS_PER_TOKEN
    head = text[:_CHARACTERS_READ].encode("utf-8", "replace").decode("utf-8")
    return head if len(head) <= most else " ".join(head.split())[:most]


def tokenize(tokenizer: Tokenizer, texts: Sequence[str], *, max_tokens: int) -> list[list[int]]:
    """Return token numbers with the special tokens, each list at most `max_tokens` long.

    What is too long loses its last tokens before the special ones are put around it.

    Raises:
        ValueError: `max_tokens` leaves no room beside the special tokens.
    """
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    if max_tokens <= special:
        raise ValueError(f"max_tokens is {max_tokens}, {special} of them are special: there is no room for a text")
    cleaned = [clean_text(text, max_tokens=max_tokens) for text in texts]
    encodings = tokenizer.encode_batch_fast(cleaned)
    return [
        encoding.ids if len(encoding.ids) <= max_tokens else _cut(tokenizer, text, max_tokens - special).ids
        for text, encoding in zip(cleaned, encodings, strict=True)
    ]


def pad_ids(sequences: Sequence[Sequence[int]], *, pad: int) -> tuple[Ids, Mask]:
    """Return token numbers, filled up with `pad`, and where they are real, both (len(sequences), longest)."""
    longest = max(len(sequence) for sequence in sequences)
    ids = np.full((len(sequences), longest), pad, dtype=np.int64)
    mask = np.zeros((len(sequences), longest), dtype=np.bool_)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = sequence
        mask[row, : len(sequence)] = True
    return ids, mask


def length_batches(lengths: Sequence[int], *, max_tokens: int) -> Iterator[list[int]]:
    """Yield indices in batches of similar length, each of at most `max_tokens` positions with its padding."""
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: (lengths[index], index)):
        if batch and (len(batch) + 1) * lengths[index] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _cut(tokenizer: Tokenizer, text: str, room: int) -> Encoding:
    """Return a text's first `room` tokens with the special ones.

    Not by the tokenizer's own truncation: that is a state of it, which all threads share.
    """
    encoding = tokenizer.encode(text, add_special_tokens=False)
    encoding.truncate(room)
    return tokenizer.post_process(encoding)

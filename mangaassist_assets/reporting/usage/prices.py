"""Prices of language models as data: who costs what, where, and from when until when.

The table beside this module is Amazon Bedrock's on-demand list. Another file may take its place; every line of it is
checked before a price is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

PACKAGED_PRICES = Path(__file__).with_name("bedrock_prices.json")
CURRENCY = "USD"
_HIGHEST_PRICE = 1_000_000
TOKEN_KINDS = ("input", "output", "cache_read", "cache_write")

_TEXT_FIELDS = ("model_id", "source")
_KNOWN_FIELDS = {
    "model_id",
    "region",
    "valid_from",
    "valid_to",
    "currency",
    *TOKEN_KINDS,
    "source",
    "retrieved",
    "note",
}
_PROVIDER_PREFIX = re.compile(r"^(?:bedrock(?:_converse)?|litellm|converse|converse_like|invoke)/")
_REGION_PREFIX = re.compile(r"^[a-z]{2}(?:-[a-z]+)+-\d+/")
_ARN = re.compile(r"^arn:[^:]+:bedrock:[^:]*:[^:]*:(?:foundation-model|inference-profile)/")
_GEOGRAPHY = re.compile(r"^(?:us-gov|apac|global|[a-z]{2})\.")
# anthropic.claude-3-5-sonnet -20241022 -v2:0 :200k: what a short id leaves out.
_MODEL_ID = re.compile(
    r"(?P<base>.+?)(?:[-@](?P<date>\d{8}|latest))?(?:-(?P<version>v\d+(?::\d+)?))?(?::\d+k)?", re.DOTALL
)
_OPAQUE = re.compile(
    r":bedrock:[^:]*:[^:]*:"
    r"(application-inference-profile|provisioned-model|custom-model|imported-model|(?:default-)?prompt-router)"
)


class PriceTableError(ValueError):
    """A price file that cannot be trusted; the message names the file, the entry and what is wrong."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Price:
    """USD per million tokens of one model, from `valid_from` until the day before `valid_to` (None: still valid).

    `model_id` may end in `*`. `region` None means any region. A kind of token without a price is None, never 0.
    """

    model_id: str
    region: str | None
    valid_from: date
    valid_to: date | None
    input: float | None
    output: float | None
    cache_read: float | None
    cache_write: float | None
    source: str
    retrieved: date

    @property
    def span_ms(self) -> tuple[int, int | None]:
        """From when until when it is valid, in milliseconds since the epoch (UTC)."""
        return _midnight_ms(self.valid_from), _midnight_ms(self.valid_to) if self.valid_to else None


@dataclass(frozen=True, slots=True, kw_only=True)
class PricePeriod:
    """The price that counts for a model from `from_ms` until before `to_ms` (None: open).

    `last_known` is true after a price has ended and before another is known: the old one stands in.
    """

    from_ms: int
    to_ms: int | None
    price: Price
    last_known: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTable:
    """All prices of a file."""

    prices: tuple[Price, ...]

    def periods(self, model_id: str, *, region: str | None = None) -> list[PricePeriod]:
        """Return which price counts when for a model id as a trace names it, oldest first; [] for an unknown model.

        An inference profile's own price goes before that of its model, an exact id before one that a short id may mean
        (its newest version first), that before a pattern and a longer pattern before a shorter one, the region's price
        before that of any region. A price that has ended counts on until another one begins, as `last_known`.
        """
        ranked: list[tuple[tuple[int, tuple[int, int], bool], Price]] = []
        for place, candidate in enumerate(model_id_candidates(model_id)):
            for price in self.prices:
                distance = _distance(candidate, price.model_id)
                if distance is not None and price.region in (None, region):
                    ranked.append(((place, distance, price.region is None), price))
        ranked.sort(key=lambda one: one[0])
        edges = sorted({edge for _, price in ranked for edge in price.span_ms if edge is not None})
        periods: list[PricePeriod] = []
        for start, end in pairwise([*edges, None]):
            if start is not None:
                best = next((price for _, price in ranked if _is_valid(price, start)), None)
                if best is not None:
                    periods.append(PricePeriod(from_ms=start, to_ms=end, price=best))
                elif periods:
                    periods.append(PricePeriod(from_ms=start, to_ms=end, price=periods[-1].price, last_known=True))
        return periods


def model_id_candidates(model_id: str) -> tuple[str, ...]:
    """Return the ids under which a price may stand, the nearest first: the inference profile, then its model.

    `arn:aws:bedrock:us-east-1:111122223333:inference-profile/us.anthropic.claude-…` and LiteLLM's
    `bedrock/us.anthropic.claude-…` both give `us.anthropic.claude-…` and `anthropic.claude-…`.
    """
    name = model_id.strip()
    while (shorter := _PROVIDER_PREFIX.sub("", name)) != name:
        name = shorter
    name = _ARN.sub("", _REGION_PREFIX.sub("", name))
    model = _GEOGRAPHY.sub("", name)
    return (name,) if model == name else (name, model)


def why_unknown(model_id: str) -> str:
    """Return why a model id without any price has none."""
    opaque = _OPAQUE.search(model_id)
    if opaque is None:
        return "the price list has no such model id"
    if opaque[1] == "provisioned-model":
        return "provisioned throughput is paid by the hour, not by the token"
    return f"this ARN ({opaque[1]}) does not say which model it is"


def read_prices(path: Path | None = None) -> PriceTable:
    """Read a price file, by default the packaged one.

    Raises:
        PriceTableError: The file is missing, is no price file, or an entry is wrong; names the first that is.
    """
    path = path or PACKAGED_PRICES
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise PriceTableError(f"the price file {path} cannot be read: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise PriceTableError(f"the price file {path} is not JSON in UTF-8: {error}") from error
    if not isinstance(content, dict) or not isinstance(content.get("prices"), list):
        raise PriceTableError(f"the price file {path} is not an object with a list `prices`")
    prices = [_price(entry, f"{path.name}, price {number}") for number, entry in enumerate(content["prices"], start=1)]
    _check_overlaps(prices, path.name)
    return PriceTable(prices=tuple(prices))


def _price(entry: object, where: str) -> Price:
    if not isinstance(entry, dict):
        raise PriceTableError(f"{where} is not an object")
    where = f"{where} ({entry.get('model_id')})"
    _check_texts(entry, where)
    valid_from, valid_to = _date(entry, "valid_from", where), _date(entry, "valid_to", where)
    retrieved = _date(entry, "retrieved", where)
    if valid_from is None or retrieved is None:
        raise PriceTableError(f"{where}: valid_from and retrieved are needed")
    if valid_to is not None and valid_to <= valid_from:
        raise PriceTableError(f"{where}: valid_to {valid_to} is not after valid_from {valid_from}")
    amounts = {kind: _amount(entry, kind, where) for kind in TOKEN_KINDS}
    if amounts["input"] is None and amounts["output"] is None:
        raise PriceTableError(f"{where} has neither a price of input nor of output tokens")
    return Price(
        model_id=entry["model_id"],
        region=entry.get("region"),
        valid_from=valid_from,
        valid_to=valid_to,
        source=entry["source"],
        retrieved=retrieved,
        **amounts,
    )


def _check_texts(entry: Mapping[str, Any], where: str) -> None:
    if unknown := sorted(set(entry) - _KNOWN_FIELDS):
        raise PriceTableError(f"{where} has the unknown field {unknown[0]!r}; known are {sorted(_KNOWN_FIELDS)}")
    for name in _TEXT_FIELDS:
        if not isinstance(entry.get(name), str) or not entry[name].strip():
            raise PriceTableError(f"{where}: {name} is not a text")
    if "*" in entry["model_id"][:-1] or re.search(r"[?\[\]\s]", entry["model_id"]):
        raise PriceTableError(f"{where}: model_id is an id, or the beginning of one with a single * at its end")
    if entry.get("currency", CURRENCY) != CURRENCY:
        raise PriceTableError(f"{where}: currency {entry['currency']!r} is not known; give prices in {CURRENCY}")
    region = entry.get("region")
    if region is not None and (not isinstance(region, str) or not region):
        raise PriceTableError(f"{where}: region is neither a text nor null")


def _date(entry: Mapping[str, Any], name: str, where: str) -> date | None:
    value = entry.get(name)
    if value is None:
        return None
    try:
        return date.fromisoformat(value)
    except (TypeError, ValueError):
        raise PriceTableError(f"{where}: {name} {value!r} is not a date such as 2026-03-24") from None


def _amount(entry: Mapping[str, Any], kind: str, where: str) -> float | None:
    value = entry.get(kind)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    # Compared as it stands: NaN is below nothing, and a number of a thousand digits is no float.
    if not number or not 0 <= value <= _HIGHEST_PRICE:
        raise PriceTableError(
            f"{where}: {kind} {str(value)[:40]!r} is not a price; give USD per million tokens, or null"
        )
    return float(value)


def _check_overlaps(prices: Iterable[Price], file: str) -> None:
    by_name: dict[tuple[str, str], list[Price]] = {}
    for price in prices:
        by_name.setdefault((price.model_id, price.region or ""), []).append(price)
    for (model_id, _), same in by_name.items():
        for earlier, later in pairwise(sorted(same, key=lambda price: price.valid_from)):
            if earlier.valid_to is None or later.valid_from < earlier.valid_to:
                raise PriceTableError(
                    f"{file}: two prices of {model_id} hold on {later.valid_from}: end the older one with valid_to"
                )


def _distance(asked: str, listed: str) -> tuple[int, int] | None:
    """Return how far a listed id is from the one that is asked for, nearest first; None where it is another model.

    An id without a vendor is looked for among all vendors; a date or version that either leaves out may be any.
    """
    if "." not in asked and not _GEOGRAPHY.match(listed):
        listed = listed.partition(".")[2] or listed
    if asked == listed:
        return 0, 0
    if listed.endswith("*"):
        return (2, -len(listed)) if asked.startswith(listed[:-1]) else None
    ours, theirs = _MODEL_ID.fullmatch(asked), _MODEL_ID.fullmatch(listed)
    if ours is None or theirs is None or ours["base"] != theirs["base"]:
        return None
    if theirs["date"] is not None and ours["date"] not in (None, "latest", theirs["date"]):
        return None
    # "v2" is any "v2:0"; where one of them names no version, any will do.
    version, other = sorted((ours["version"] or "", theirs["version"] or ""), key=len)
    if version and other != version and not other.startswith(f"{version}:"):
        return None
    return 1, -int(theirs["date"] or 0)


def _is_valid(price: Price, moment_ms: int) -> bool:
    start, end = price.span_ms
    return start <= moment_ms and (end is None or moment_ms < end)


def _midnight_ms(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1_000)

"""Prices: the one that was valid then, for the model behind the name; files that cannot be trusted are refused."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.reporting.usage.prices import PriceTableError, model_id_candidates, read_prices, why_unknown

LINE = {
    "model_id": "anthropic.invented-v1:0",
    "region": None,
    "valid_from": "2026-01-01",
    "valid_to": None,
    "currency": "USD",
    "input": 3.0,
    "output": 15.0,
    "cache_read": None,
    "cache_write": None,
    "source": "a test",
    "retrieved": "2026-01-02",
}


def write(folder, *lines):
    path = folder / "prices.json"
    path.write_text(json.dumps({"prices": [{**LINE, **line} for line in lines]}), encoding="utf-8")
    return path


def at(table, model, day, **where):
    """Return the input price of a model on a day, None without one."""
    moment = int(datetime.combine(date.fromisoformat(day), datetime.min.time(), UTC).timestamp() * 1_000)
    found = [
        period.price.input
        for period in table.periods(model, **where)
        if period.from_ms <= moment and (period.to_ms is None or moment < period.to_ms)
    ]
    assert len(found) <= 1
    return found[0] if found else None


def test_the_price_of_the_day_counts_the_last_one_after_its_end_and_none_before(tmp_path):
    table = read_prices(
        write(
            tmp_path,
            {"valid_to": "2026-02-01"},
            {"valid_from": "2026-02-01", "valid_to": "2026-03-01", "input": 2.0},
        )
    )
    days = ("2025-12-31", "2026-01-01", "2026-01-31", "2026-02-01", "2026-02-28", "2026-03-01")
    assert [at(table, "anthropic.invented-v1:0", day) for day in days] == [None, 3.0, 3.0, 2.0, 2.0, 2.0]
    assert [period.last_known for period in table.periods("anthropic.invented-v1:0")] == [False, False, True]


def test_a_gap_between_two_prices_has_the_earlier_one_as_the_last_that_is_known(tmp_path):
    table = read_prices(write(tmp_path, {"valid_to": "2026-02-01"}, {"valid_from": "2026-03-01", "input": 2.0}))
    found = [(period.price.input, period.last_known) for period in table.periods(LINE["model_id"])]
    assert found == [(3.0, False), (3.0, True), (2.0, False)]


@pytest.mark.parametrize(
    "name",
    [
        "anthropic.invented-v1:0",
        "us.anthropic.invented-v1:0",
        "apac.anthropic.invented-v1:0",
        "bedrock/us.anthropic.invented-v1:0",
        "bedrock/converse/anthropic.invented-v1:0",
        "bedrock/us-west-2/anthropic.invented-v1:0",
        "arn:aws:bedrock:us-east-1::foundation-model/anthropic.invented-v1:0",
        "arn:aws:bedrock:us-east-1:000000000000:inference-profile/eu.anthropic.invented-v1:0",
    ],
)
def test_an_inference_profile_an_arn_and_a_proxys_name_have_their_models_price(tmp_path, name):
    assert at(read_prices(write(tmp_path, {})), name, "2026-02-01") == 3.0


def test_a_profiles_own_price_goes_before_its_models(tmp_path):
    table = read_prices(write(tmp_path, {"input": 3.3}, {"model_id": "global.anthropic.invented-v1:0", "input": 3.0}))
    names = ("global.anthropic.invented-v1:0", "us.anthropic.invented-v1:0")
    assert [at(table, name, "2026-02-01") for name in names] == [3.0, 3.3]


def test_an_exact_id_goes_before_a_pattern_and_a_longer_pattern_before_a_shorter(tmp_path):
    table = read_prices(
        write(
            tmp_path,
            {"model_id": "anthropic.*", "input": 1.0},
            {"model_id": "anthropic.inv*", "input": 2.0},
            {"model_id": "anthropic.invented-v1:0", "valid_from": "2026-02-01"},
        )
    )
    assert [at(table, "anthropic.invented-v1:0", day) for day in ("2026-01-15", "2026-02-15")] == [2.0, 3.0]
    assert at(table, "anthropic.other", "2026-01-15") == 1.0


def test_the_regions_price_goes_before_that_of_any_region(tmp_path):
    table = read_prices(write(tmp_path, {}, {"region": "eu-central-1", "input": 3.6}))
    found = [at(table, LINE["model_id"], "2026-02-01", region=region) for region in (None, "us-east-1", "eu-central-1")]
    assert found == [3.0, 3.0, 3.6]


@pytest.mark.parametrize(
    "name", ["local-extractive", "anthropic.invented-v2:0", "anthropic.inv", "other.invented-v1:0"]
)
def test_an_unknown_model_has_no_price(tmp_path, name):
    assert read_prices(write(tmp_path, {})).periods(name) == []


PROFILE_ARN = "arn:aws:bedrock:us-east-1:000000000000:inference-profile/"
SONNET_35 = {
    "claude-3-5-sonnet": "20241022-v2:0",
    "anthropic.claude-3-5-sonnet": "20241022-v2:0",
    "us.anthropic.claude-3-5-sonnet": "20241022-v2:0",
    "bedrock/eu.anthropic.claude-3-5-sonnet-20240620-v1:0": "20240620-v1:0",
    "claude-3-5-sonnet-20240620": "20240620-v1:0",
    "claude-3-5-sonnet-v2": "20241022-v2:0",
    "anthropic.claude-3-5-sonnet-20241022-v2": "20241022-v2:0",
    "anthropic.claude-3-5-sonnet-20241022-v2:0:200k": "20241022-v2:0",
    f"{PROFILE_ARN}us.anthropic.claude-3-5-sonnet-20241022-v2:0": "20241022-v2:0",
}


@pytest.mark.parametrize(("name", "version"), SONNET_35.items())
def test_the_model_of_the_design_documents_has_its_price_under_every_name_it_goes_by(name, version):
    last = read_prices().periods(name)[-1]
    assert last.price.model_id == f"anthropic.claude-3-5-sonnet-{version}"
    assert (last.price.input, last.price.output, last.last_known, last.to_ms) == (3.0, 15.0, True, None)


def test_a_short_id_means_the_newest_version_there_was_then():
    table = read_prices()
    days = [date(2024, 7, 1), date(2025, 7, 1)]
    moments = [datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp() * 1_000 for day in days]
    found = [
        next(one.price for one in table.periods("claude-3-5-sonnet") if one.from_ms <= moment < (one.to_ms or 0))
        for moment in moments
    ]
    assert [(price.model_id[-13:], price.cache_read, price.cache_write) for price in found] == [
        ("20240620-v1:0", None, None),
        ("20241022-v2:0", 0.3, 3.75),
    ]


@pytest.mark.parametrize(
    ("name", "listed"),
    [
        ("claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("global.anthropic.claude-sonnet-4-5", "global.anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("apac.anthropic.claude-sonnet-4-5-20250929-v1:0", "anthropic.claude-sonnet-4-5-20250929-v1:0"),
        ("anthropic.claude-sonnet-5-20260918-v1:0", "anthropic.claude-sonnet-5"),
        ("titan-embed-text-v1", "amazon.titan-embed-text-v1"),
    ],
)
def test_vendor_date_and_version_may_be_left_out_but_never_be_others(name, listed):
    assert {one.price.model_id for one in read_prices().periods(name)} == {listed}


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("gpt-sorcerer", "no such model id"),
        ("arn:aws:bedrock:us-east-1:000000000000:application-inference-profile/ab12", "does not say which model"),
        ("arn:aws:bedrock:us-east-1:000000000000:provisioned-model/ab12", "by the hour"),
    ],
)
def test_a_name_without_a_price_says_why(name, why):
    assert read_prices().periods(name) == []
    assert why in why_unknown(name)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{}, {"valid_from": "2026-06-01"}], "two prices of anthropic.invented-v1:0 hold on 2026-06-01"),
        ([{"input": -1}], "input '-1' is not a price"),
        ([{"output": True}], "output 'True' is not a price"),
        ([{"output": "15"}], "output '15' is not a price"),
        ([{"input": float("nan")}], "input 'nan' is not a price"),
        ([{"input": 10**400}], "is not a price"),
        ([{"currency": "EUR"}], "currency 'EUR' is not known"),
        ([{"valid_to": "2026-01-01"}], "valid_to 2026-01-01 is not after valid_from"),
        ([{"valid_from": "yesterday"}], "valid_from 'yesterday' is not a date"),
        ([{"valid_from": None}], "valid_from and retrieved are needed"),
        ([{"source": " "}], "source is not a text"),
        ([{"model_id": "*.claude"}], "a single \\* at its end"),
        ([{"input": None, "output": None}], "neither a price of input nor of output"),
        ([{"inptu": 3}], "unknown field 'inptu'"),
        ([{"region": 7}], "region is neither a text nor null"),
    ],
)
def test_a_file_that_cannot_be_trusted_is_refused_with_its_entry(tmp_path, lines, said):
    with pytest.raises(PriceTableError, match=said) as raised:
        read_prices(write(tmp_path, *lines))
    assert "prices.json" in str(raised.value)


@pytest.mark.parametrize("content", ["", "[]", '{"prices": 3}', "\x00", '{"prices": [7]}', "[" * 100_000])
def test_what_is_no_price_file_is_refused(tmp_path, content):
    path = tmp_path / "prices.json"
    path.write_text(content, encoding="utf-8")
    with pytest.raises(PriceTableError, match="prices"):
        read_prices(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(PriceTableError, match="cannot be read: No such file"):
        read_prices(tmp_path / "prices.json")


def test_the_packaged_prices_can_be_trusted_and_say_where_they_are_from():
    table = read_prices()
    assert len(table.prices) > 30
    assert all("Amazon Bedrock pricing" in price.source for price in table.prices)
    haiku = table.periods("us.anthropic.claude-3-5-haiku-20241022-v1:0")
    assert [(one.price.input, one.price.output) for one in haiku] == [(0.8, 4.0)]
    assert at(table, "amazon.titan-embed-text-v2:0", "2026-03-24") == 0.02


@given(st.text())
def test_any_name_has_candidates_and_never_fails(name):
    candidates = model_id_candidates(name)
    assert 1 <= len(candidates) <= 2
    assert all(name.strip().endswith(candidate) for candidate in candidates)

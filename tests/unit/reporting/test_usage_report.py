"""The usage report: percentiles as numpy's, costs by hand, groups that add up."""

from __future__ import annotations

import json
from collections import defaultdict

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.reporting.usage.chart import cost_chart, customer_chart, latency_chart
from mangaassist_assets.reporting.usage.prices import read_prices
from mangaassist_assets.reporting.usage.report import DIMENSIONS, WHOLE_TURN, build_usage_report
from mangaassist_assets.reporting.warehouse.queries import OVERALL
from mangaassist_assets.tracing.contract.turns import Generation, StageTiming
from tests.support.examples import examples
from tests.support.reports import BUNDLE, HAIKU, START_MS, chat_turn
from tests.support.turn_frames import turns_frame

DAY_MS = 86_400_000
DEAR, CHEAP, FREE_OF_PRICE = "invented.dear", "invented.cheap", "invented.unpriced"
GENERATION = st.builds(
    Generation,
    model_id=st.sampled_from([DEAR, CHEAP, FREE_OF_PRICE, None]),
    input_tokens=st.none() | st.integers(0, 10**6),
    output_tokens=st.none() | st.integers(0, 10**6),
    cache_read_tokens=st.none() | st.integers(0, 10**6),
    reported_cost_usd=st.none() | st.floats(0, 10),
)
FIELDS = st.fixed_dictionaries(
    {
        "prompt_version": st.sampled_from([None, "p1", "p2"]),
        "experiment_id": st.sampled_from([None, "control", "treatment"]),
        "duration_ms": st.integers(0, 10**6),
        "state": st.sampled_from(["OK", "ERROR"]),
        "guardrail_blocked": st.booleans(),
        "cache_hit": st.none() | st.booleans(),
        "tenant": st.sampled_from([None, "a", "b"]),
        "team": st.sampled_from([None, "red"]),
        "bedrock_model_id": st.sampled_from([DEAR, None]),
        "stages": st.lists(
            st.builds(StageTiming, name=st.sampled_from(["embed_query", "guardrails"]), duration_ms=st.floats(0, 1e6)),
            max_size=4,
        ).map(tuple),
        "generations": st.lists(GENERATION, max_size=3).map(tuple),
    }
)


@pytest.fixture(scope="module")
def prices(tmp_path_factory):
    """Invented prices: a dear model that gets dearer two days in, a cheap one without a price for cached tokens."""
    line = {"valid_from": "2026-01-01", "source": "a test", "retrieved": "2026-01-01"}
    path = tmp_path_factory.mktemp("prices") / "prices.json"
    lines = [
        {**line, "model_id": DEAR, "input": 1.0, "output": 10.0, "cache_read": 0.1, "valid_to": "2026-03-26"},
        {**line, "model_id": DEAR, "input": 2.0, "output": 20.0, "cache_read": 0.2, "valid_from": "2026-03-26"},
        {**line, "model_id": CHEAP, "input": 0.01, "output": 0.02},
    ]
    path.write_text(json.dumps({"prices": lines}), encoding="utf-8")
    return read_prices(path)


def report_of(turns, prices):
    return build_usage_report(turns_frame(turns), prices, release_bundle=BUNDLE)


def generations(*calls, **fields):
    return {"generations": tuple(Generation(model_id=model, **tokens) for model, tokens in calls), **fields}


def test_a_call_costs_its_tokens_at_the_price_of_its_model(prices):
    tokens = {"input_tokens": 1_000, "output_tokens": 200, "cache_read_tokens": 5_000}
    report = report_of([chat_turn(1, **generations((DEAR, tokens)))], prices)
    assert report.overall["cost_usd"] == pytest.approx((1_000 * 1.0 + 200 * 10.0 + 5_000 * 0.1) / 1e6)


def test_the_price_that_was_valid_when_the_turn_began_counts(prices):
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0}
    days = [START_MS, START_MS + DAY_MS, START_MS + 3 * DAY_MS]  # 24, 25 and 27 March 2026
    turns = [chat_turn(n, timestamp_ms=day, **generations((DEAR, tokens))) for n, day in enumerate(days)]
    report = report_of(turns, prices)
    assert report.overall["cost_usd"] == pytest.approx(1.0 + 1.0 + 2.0)
    used = report.prices.sort("valid_from").select("valid_from", "valid_to", "calls").rows()
    assert used == [("2026-01-01", "2026-03-26", 2), ("2026-03-26", None, 1)]


def test_after_its_price_ended_a_call_is_priced_with_it_and_the_report_says_so(tmp_path):
    path = tmp_path / "prices.json"
    line = {"model_id": DEAR, "input": 1.0, "output": 1.0, "source": "a test", "retrieved": "2026-01-01"}
    path.write_text(json.dumps({"prices": [{**line, "valid_from": "2026-01-01", "valid_to": "2026-03-25"}]}), "utf-8")
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0}
    days = [START_MS, START_MS + DAY_MS, START_MS - 90 * DAY_MS]  # valid, over since that midnight, not yet
    turns = [chat_turn(n, timestamp_ms=day, **generations((DEAR, tokens))) for n, day in enumerate(days)]
    report = report_of(turns, read_prices(path))
    assert [report.overall[name] for name in ("cost_usd", "priced_calls", "unpriced_calls")] == [2.0, 2, 1]
    assert report.prices.select("calls", "last_known").rows() == [(1, False), (1, True)]
    too_early, stands_in = report.price_notes
    assert too_early.startswith(f"{DEAR}: 1 calls without a cost: no price is known for that time")
    assert "begins on 2026-01-01" in too_early
    assert "1 calls are priced with the list of 2026-03" in stands_in


def test_every_call_without_a_cost_has_its_reason_by_model(prices):
    whole = {"input_tokens": 10, "output_tokens": 10}
    calls = [
        (FREE_OF_PRICE, whole),
        (FREE_OF_PRICE, whole),
        (CHEAP, whole | {"cache_read_tokens": 1, "cache_write_tokens": 2}),
        (DEAR, {"input_tokens": 10}),
        (None, whole),
        (DEAR, whole),
    ]
    report = report_of([chat_turn(n, bedrock_model_id=None, **generations(one)) for n, one in enumerate(calls)], prices)
    assert report.unpriced.rows() == [
        (FREE_OF_PRICE, "the price list has no such model id", 2),
        ("(not stated)", "the trace does not state its model", 1),
        (CHEAP, "its price for cache_read, cache_write tokens is not known", 1),
        (DEAR, "the trace does not state its tokens", 1),
    ]
    assert len(report.price_notes) == 4
    assert report.to_dict()["price_notes"] == report.price_notes


def test_the_model_of_the_design_documents_is_priced_and_the_report_says_with_which_list():
    tokens = {"input_tokens": 321, "output_tokens": 17}
    report = report_of([chat_turn(1, **generations(("anthropic.claude-3-5-sonnet", tokens)))], read_prices())
    assert report.overall["cost_usd"] == pytest.approx((321 * 3.0 + 17 * 15.0) / 1e6)
    assert report.unpriced_models == []
    (note,) = report.price_notes
    assert "priced with the list of 2025-12" in note


def test_all_calls_with_a_cost_leave_nothing_to_say(prices):
    report = report_of([chat_turn(1, **generations((DEAR, {"input_tokens": 1, "output_tokens": 1})))], prices)
    assert (report.price_notes, report.unpriced.height) == ([], 0)


def test_a_model_without_a_price_costs_null_and_is_named_never_zero(prices):
    tokens = {"input_tokens": 10, "output_tokens": 10}
    report = report_of([chat_turn(1, **generations((FREE_OF_PRICE, tokens)))], prices)
    assert (report.overall["cost_usd"], report.overall["unpriced_calls"]) == (None, 1)
    assert report.unpriced_models == [FREE_OF_PRICE]


def test_a_price_is_needed_only_for_the_tokens_that_were_used(prices):
    plain, cached = (
        {"input_tokens": 10, "output_tokens": 10},
        {"input_tokens": 10, "output_tokens": 10, "cache_read_tokens": 1},
    )
    assert report_of([chat_turn(1, **generations((CHEAP, plain)))], prices).unpriced_models == []
    assert report_of([chat_turn(1, **generations((CHEAP, cached)))], prices).unpriced_models == [CHEAP]


def test_a_call_whose_tokens_nobody_counted_has_no_cost_and_is_counted_as_such(prices):
    report = report_of([chat_turn(1, **generations((DEAR, {"input_tokens": 10})))], prices)
    figures = ("cost_usd", "priced_calls", "unpriced_calls", "uncounted_calls")
    assert [report.overall[name] for name in figures] == [None, 0, 0, 1]


def test_what_a_proxy_charged_counts_before_the_list_price_and_each_part_is_told(prices):
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0, "reported_cost_usd": 0.9}
    report = report_of(
        [
            chat_turn(1, **generations((DEAR, tokens))),
            chat_turn(2, **generations((DEAR, tokens | {"reported_cost_usd": None}))),
        ],
        prices,
    )
    figures = ("cost_usd", "reported_cost_usd", "listed_cost_usd", "priced_calls", "reported_calls")
    assert [report.overall[name] for name in figures] == [1.9, 0.9, 1.0, 2, 1]
    assert report.prices["calls"].to_list() == [1]


def test_an_answer_from_a_proxys_cache_costs_nothing_whatever_the_list_says(prices):
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0, "reported_cost_usd": 0.0}
    overall = report_of([chat_turn(1, cache_hit=True, **generations((DEAR, tokens)))], prices).overall
    assert (overall["cost_usd"], overall["listed_cost_usd"], overall["priced_calls"]) == (0.0, None, 1)


def test_a_model_that_no_list_knows_costs_what_the_proxy_charged(prices):
    tokens = {"input_tokens": 10, "output_tokens": 10, "reported_cost_usd": 0.2}
    report = report_of([chat_turn(1, **generations((FREE_OF_PRICE, tokens)))], prices)
    assert (report.overall["cost_usd"], report.overall["unpriced_calls"], report.unpriced_models) == (0.2, 0, [])


def test_tenants_and_teams_have_their_turns_tokens_cost_and_hits_of_the_turns_that_tell(prices):
    tokens = {"input_tokens": 1_000_000, "output_tokens": 0}
    turns = [
        chat_turn(1, tenant="a", team="red", cache_hit=False, **generations((DEAR, tokens))),
        chat_turn(
            2, tenant="a", team="blue", cache_hit=True, **generations((DEAR, tokens | {"reported_cost_usd": 0.0}))
        ),
        chat_turn(3, tenant="b", team="red", cache_hit=None, state="ERROR", **generations((CHEAP, tokens))),
        chat_turn(4, tenant=None, team=None, generations=()),
    ]
    report = report_of(turns, prices)
    figures = ("turns", "errors", "calls", "input_tokens", "cost_usd", "cache_hits", "cache_stated")
    found = {(row["dimension"], row["value"]): tuple(row[name] for name in figures) for row in report.groups.to_dicts()}
    assert found["tenant", "a"] == (2, 0, 2, 2_000_000, 1.0, 1, 2)
    assert found["tenant", "b"] == (1, 1, 1, 1_000_000, 0.01, 0, 0)
    assert found["tenant", None] == (1, 0, 0, 0, None, 0, 0)
    assert found["team", "red"] == (2, 1, 2, 2_000_000, 1.01, 0, 1)
    assert found["team", "blue"] == (1, 0, 1, 1_000_000, 0.0, 1, 1)
    assert {row["model_id"] for row in report.of("models", "team") if row["value"] == "red"} == {DEAR, CHEAP}


def test_further_stages_are_in_the_latency_table_and_of_many_the_most_called_are_shown(prices):
    own = [StageTiming(name=name, duration_ms=5.0) for name in ("sentiment_analysis", "pii_detection", "score_risk")]
    turns = [
        chat_turn(n, stages=(*own, StageTiming(name=f"made up {n}", duration_ms=10_000.0, endpoint_name="e")))
        for n in range(40)
    ]
    report = report_of(turns, prices)
    assert len(report.of("stages")) == 44
    rows, more = report.most_called_stages(10)
    assert (len(rows), more) == (10, 34)
    shown = {row["name"]: row for row in rows}
    assert {"sentiment_analysis", "pii_detection", "score_risk", WHOLE_TURN} <= set(shown)
    assert shown["pii_detection"]["p95"] == 5.0
    assert rows == sorted(rows, key=lambda row: -row["p95"])


HOSTILE = [
    *(
        "$x_{1}$",
        "\\$",
        "a|b",
        "<script>",
        "[red]bold[/red]",
        "\u202eevil",
        "\x9b31m",
        "漫画チーム",
        "💥" * 9,
        "x" * 250,
    ),
    *("a\u2028b", "_" * 40, "%s {0} :release_bundle", "'; DROP TABLE chat_turns; --"),
]


def test_names_of_tenants_teams_stages_and_models_from_outside_break_no_picture(prices):
    turns = [
        chat_turn(
            n,
            tenant=name,
            team=name,
            stages=(StageTiming(name=name, duration_ms=1.0),),
            **generations((name, {"input_tokens": 1, "output_tokens": 1, "reported_cost_usd": 0.1})),
        )
        for n, name in enumerate(HOSTILE)
    ]
    report = report_of(turns, prices)
    assert {row["value"] for row in report.of("groups", "team")} == set(HOSTILE)
    for chart in (latency_chart, cost_chart, customer_chart):
        picture = chart(report)
        assert picture is not None
        assert picture.startswith(b"\x89PNG")
        assert picture == chart(report)


def test_without_tenants_and_teams_there_is_no_picture_of_them(prices):
    assert customer_chart(report_of([chat_turn(1)], prices)) is None


def test_percentiles_are_numpys(prices):
    generator = np.random.default_rng(0)
    durations = generator.integers(1, 10_000, 137)
    spans = generator.lognormal(3, 1, 137)
    turns = [
        chat_turn(n, duration_ms=int(whole), stages=(StageTiming(name="embed_query", duration_ms=float(span)),))
        for n, (whole, span) in enumerate(zip(durations, spans, strict=True))
    ]
    stages = {row["name"]: row for row in report_of(turns, prices).of("stages")}
    for name, values in ((WHOLE_TURN, durations), ("embed_query", spans)):
        expected = np.percentile(values, [50, 95, 99])
        assert [stages[name][column] for column in ("p50", "p95", "p99")] == pytest.approx(expected.tolist())
        assert stages[name]["calls"] == 137


def test_a_turn_counts_once_whether_its_writer_has_our_root_span_or_not(prices):
    ours, others = chat_turn(1, duration_ms=300), chat_turn(2, duration_ms=500, stages=())
    assert WHOLE_TURN in {stage.name for stage in ours.stages}
    (whole,) = [row for row in report_of([ours, others], prices).of("stages") if row["name"] == WHOLE_TURN]
    assert (whole["calls"], whole["p50"]) == (2, 400.0)


def test_shares_are_of_the_turns_that_say(prices):
    turns = [
        chat_turn(1, cache_hit=True),
        chat_turn(2, cache_hit=False, state="ERROR"),
        chat_turn(3, cache_hit=None, guardrail_blocked=True),
        chat_turn(4, cache_hit=None),
    ]
    overall = report_of(turns, prices).overall
    assert (overall["cache_hits"], overall["cache_stated"], overall["cache_hit_share"]) == (1, 2, 0.5)
    assert (overall["error_rate"], overall["blocked_rate"]) == (0.25, 0.25)


def test_an_arm_without_model_calls_has_zero_calls_and_no_cost(prices):
    turns = [chat_turn(1, experiment_id="control"), chat_turn(2, experiment_id="treatment", generations=())]
    groups = {row["value"]: row for row in report_of(turns, prices).of("groups", "experiment_id")}
    assert (groups["treatment"]["calls"], groups["treatment"]["input_tokens"], groups["treatment"]["cost_usd"]) == (
        0,
        0,
        None,
    )


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(FIELDS, max_size=8))
def test_groups_add_up_to_the_whole_and_to_a_count_by_hand(prices, fields):
    turns = [chat_turn(number, **one) for number, one in enumerate(fields)]
    report = report_of(turns, prices)
    sums = ("turns", "errors", "blocked", "cache_hits", "calls", "priced_calls", "unpriced_calls", "input_tokens")
    for dimension in DIMENSIONS:
        rows = report.of("groups", dimension)
        assert {row["value"] for row in rows} == {getattr(turn, dimension) for turn in turns}
        for name in sums:
            assert sum(row[name] for row in rows) == report.overall[name]
        costs = [row["cost_usd"] for row in rows if row["cost_usd"] is not None]
        assert sum(costs) == pytest.approx(report.overall["cost_usd"] or 0.0, abs=1e-6)
        stages = report.of("stages", dimension)
        assert sum(row["calls"] for row in stages) == sum(row["calls"] for row in report.of("stages"))
    by_model = defaultdict(int)
    for turn in turns:
        for call in turn.generations:
            by_model[call.model_id or turn.bedrock_model_id or "(not stated)"] += 1
    assert {row["model_id"]: row["calls"] for row in report.of("models")} == by_model
    assert report.overall["calls"] == sum(
        report.overall[name] for name in ("priced_calls", "unpriced_calls", "uncounted_calls")
    )
    assert canonical_json(report.to_dict()) == canonical_json(report_of(turns[::-1], prices).to_dict())


@pytest.mark.parametrize("count", [0, 30])
def test_the_pictures_are_small_and_the_same_for_the_same_report(prices, count):
    report = report_of(
        [chat_turn(n, bedrock_model_id=f"$model_{n}", **generations((None, {}), (HAIKU, {}))) for n in range(count)],
        prices,
    )
    for chart in (latency_chart, cost_chart):
        picture = chart(report)
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 60_000
        assert picture == chart(report)
    assert report.overall["turns"] == count
    assert {row["dimension"] for row in report.of("groups")} == {OVERALL}

"""The data card: what it counts, what it never says, how it reads."""

from __future__ import annotations

import polars as pl
import pytest

from mangaassist_assets.datasets.guards.redaction_pass import RedactionPass
from mangaassist_assets.datasets.versions.data_card import DataCard, Provenance, counts_chart, moment
from mangaassist_assets.datasets.versions.versions import seal_version
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.tracing.reading.turn_reader import CONTRACT_VERSION

SECRET = "write to nobody.invented@example.invalid please"


def frame(**columns) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    values = {
        "example_id": [f"e{number}" for number in range(count)],
        "split": ["train"] * count,
        "label_kind": ["human"] * count,
        "release_bundle": ["b1"] * count,
        "user_key": [None] * count,
        **columns,
    }
    return pl.DataFrame(values)


def test_it_counts_intents_bundles_sources_labels_languages_people_and_labellers():
    card = seal_version(
        frame(
            text=["where is it", "どこですか", "42", "again"],
            intent=["order", "order", "other", "order"],
            split=["train", "test", "train", "validation"],
            label_kind=["base", "human", "judge", "human"],
            release_bundle=[None, "b1", "b2", "b2"],
            source_trace_id=[None, "t1", "t2", "t3"],
            user_key=[None, "u-1", "u-1", "u-2"],
            session_id=[None, "s1", "s2", "s2"],
            labeller=[None, "anna", "model-x", "anna"],
        ),
        Provenance(kind="intent", excluded={"duplicate message": 3, "nothing": 0}),
    ).card
    assert card.by_intent == {"order": {"test": 1, "train": 1, "validation": 1}, "other": {"train": 1}}
    assert card.by_bundle == {"b1": 1, "b2": 2, "bootstrap": 1}
    assert card.by_source == {"corpus": 1, "traces": 3}
    assert card.by_label_kind == {"base": 1, "human": 2, "judge": 1}
    assert card.by_split == {"train": 2, "validation": 1, "test": 1}
    assert card.by_language == {"en": 2, "ja": 1, "other": 1}
    assert (card.shoppers, card.sessions, card.labellers) == (2, 2, 2)
    assert card.excluded == {"duplicate message": 3}


def test_passages_are_counted_by_kind_and_examples_once():
    card = seal_version(
        frame(
            example_id=["q1", "q1", "q1"],
            query=["where"] * 3,
            passage=["here", "there", "nowhere"],
            negative_kind=[None, "shown", "random"],
        ),
        Provenance(kind="ranking", passages_left_out={"same words as an answer": 2}),
        base_source="titles",
    ).card
    assert (card.examples, card.rows) == (1, 3)
    assert card.by_negative_kind == {"random": {"train": 1}, "relevant": {"train": 1}, "shown": {"train": 1}}
    assert card.by_source == {"titles": 1}
    assert "| same words as an answer | 2 |" in card.to_markdown()


def test_the_redaction_report_counts_placeholders_and_what_the_second_pass_changed():
    second = RedactionPass(Vocabulary(["Kenji Sato"]))
    texts = [second.clean(text) for text in ("hi [NAME] and [NAME_7q]", SECRET, "plain", "plain", "left out @ home")]
    report = second.report(texts[:4])
    assert report.texts == 3
    assert report.placeholders == {"EMAIL": 1, "NAME": 2}
    assert (report.changed, report.found_again) == (1, {"EMAIL": 1})
    assert report.contract_version == CONTRACT_VERSION
    assert report.vocabulary == Vocabulary(["Kenji Sato"]).digest


def test_without_a_second_pass_the_card_says_that_it_was_not_counted():
    card = seal_version(frame(text=["[ORDER_ID] is late"]), Provenance(kind="intent")).card
    assert card.redaction is not None
    assert card.redaction.placeholders == {"ORDER_ID": 1}
    assert "the second pass was not counted" in card.to_markdown()


def test_the_card_survives_being_stored():
    card = seal_version(
        frame(text=["a"], intent=["i"]),
        Provenance(kind="intent", excluded={"x": 1}, as_of="b1", as_of_ms=7, inputs={"a/b": "00"}),
    ).card
    assert DataCard.from_json(card.to_json()) == card


@pytest.mark.parametrize(
    ("timestamp_ms", "said"),
    [(0, "1970-01-01T00:00:00.000Z"), (2**53, "9007199254740992 ms since 1970"), (-1, "-1 ms since 1970")],
)
def test_a_time_that_no_calendar_has_is_a_number(timestamp_ms, said):
    assert moment(timestamp_ms) == said


def test_the_card_says_how_many_never_what_a_message_says():
    version = seal_version(
        frame(text=["my unusual sentence"], intent=["i"]), Provenance(kind="intent", excluded={"why": 1})
    )
    for file, content in version.files().items():
        assert (b"my unusual sentence" in content) == (file == "examples.parquet")


@pytest.mark.parametrize(
    "columns", [{"intent": [f"in$tent | {n}" for n in range(60)]}, {"negative_kind": ["live"] * 60}, {}]
)
def test_the_picture_is_the_same_for_the_same_card(columns):
    card = seal_version(frame(text=["a"] * 60, **columns), Provenance(kind="intent")).card
    picture = counts_chart(card)
    assert picture.startswith(b"\x89PNG")
    assert counts_chart(card) == picture

"""The demo store as the platform sees it: the folder of knowledge and the files of messages."""

from __future__ import annotations

import csv
import hashlib
import json
import random
import re
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mangaassist_assets.core.text_keys import normalise_text
from mangaassist_assets.datasets.sources.utterances import read_utterances
from mangaassist_assets.demo.generator import DemoMessages, DemoPaths, compose_messages, write_demo
from mangaassist_assets.demo.shop import build_shop
from mangaassist_assets.demo.slots import SlotFiller
from mangaassist_assets.demo.sources import DATA, is_japanese, read_intents, read_plan, read_series, read_toml
from mangaassist_assets.demo.traffic import similarity
from mangaassist_assets.retrieval.documents.documents import read_knowledge

FILES = ("training", "first_bundle", "second_bundle", "unseen_first", "unseen_second")
UNSEEN = ("unseen_first", "unseen_second")
LONGEST = 400


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> DemoPaths:
    return write_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def records(paths: DemoPaths) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [json.loads(line) for line in getattr(paths, name).read_text(encoding="utf-8").splitlines()]
        for name in FILES
    }


@pytest.fixture(scope="module")
def composed() -> DemoMessages:
    return compose_messages(read_plan())


def digests(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_two_runs_write_identical_bytes(paths: DemoPaths, tmp_path: Path) -> None:
    write_demo(tmp_path)
    assert digests(tmp_path) == digests(paths.training.parent)


def test_the_knowledge_reads_without_a_single_reject(paths: DemoPaths) -> None:
    reading = read_knowledge(paths.knowledge)
    assert reading.rejects == ()
    ids = [document.document_id for document in reading.documents]
    assert sum(document_id.startswith("titles.csv#") for document_id in ids) >= 300
    assert sum(document_id.startswith("policies/") for document_id in ids) >= 14


def test_every_relevant_document_exists_and_every_message_has_one(
    paths: DemoPaths, records: dict[str, list[dict[str, Any]]]
) -> None:
    ids = {document.document_id for document in read_knowledge(paths.knowledge).documents}
    for name, lines in records.items():
        for number, record in enumerate(lines, start=1):
            assert record["relevant_documents"], (name, number)
            assert set(record["relevant_documents"]) <= ids, (name, number)


def test_a_question_about_a_series_points_to_the_row_with_its_title(paths: DemoPaths) -> None:
    with (paths.knowledge / "titles.csv").open(encoding="utf-8", newline="") as handle:
        titles = [row["title"] for row in csv.DictReader(handle)]
    filler = SlotFiller(build_shop(read_plan().seed), read_toml(DATA / "slots.toml"), held_out=False)
    template = next(
        template
        for intent in read_intents()
        if intent.name == "volume_availability"
        for template in intent.templates
        if template.text == "is {title} vol {vol} in stock"
    )
    for seed in range(50):
        filled = filler.fill(template, random.Random(seed))
        (document,) = filled.documents
        asked_for = filled.text.removeprefix("is ").rsplit(" vol ", 1)[0]
        assert asked_for in titles[int(document.removeprefix("titles.csv#")) - 1]


def test_the_reader_of_utterances_accepts_every_line(paths: DemoPaths) -> None:
    for name in FILES:
        reading = read_utterances(getattr(paths, name))
        assert not reading.rejects, name
        assert reading.utterances


def test_each_bundle_brings_two_intents_that_nothing_before_it_had(records: dict[str, list[dict[str, Any]]]) -> None:
    intents = {name: {record["intent"] for record in lines} for name, lines in records.items()}
    assert len(intents["training"]) == 14
    assert set(Counter(record["intent"] for record in records["training"]).values()) == {12}
    first_new = intents["first_bundle"] - intents["training"]
    assert first_new == {"digital_edition", "international_shipping"}
    second_new = intents["second_bundle"] - intents["training"] - first_new
    assert second_new == {"merchandise", "event_booking"}
    assert first_new <= intents["unseen_first"]
    assert second_new <= intents["unseen_second"]


def test_the_second_bundle_speaks_of_things_the_training_does_not_know(
    records: dict[str, list[dict[str, Any]]],
) -> None:
    new = re.compile(r"artbook|acrylic|acsta|blind box|webtoon|slipcase|raffle|\bmerch\b", re.IGNORECASE)
    share = {name: sum(bool(new.search(r["text"])) for r in lines) / len(lines) for name, lines in records.items()}
    assert share["training"] == share["first_bundle"] == 0
    assert share["second_bundle"] > 0.15


def test_unseen_messages_repeat_nothing_and_no_file_repeats_itself(records: dict[str, list[dict[str, Any]]]) -> None:
    keys = Counter(normalise_text(record["text"]) for lines in records.values() for record in lines)
    assert [key for key, count in keys.items() if count > 1] == []


def test_most_unseen_messages_come_from_templates_no_bundle_used(composed: DemoMessages) -> None:
    used = {message.template for message in composed.training}
    used |= {turn.message.template for file, turns in composed.traffic.items() if "bundle" in file for turn in turns}
    for file, turns in composed.traffic.items():
        if "unseen" in file:
            fresh = sum(turn.message.template not in used for turn in turns)
            assert fresh / len(turns) >= 0.5, file


def test_unseen_messages_come_from_other_shoppers_and_about_other_series(
    records: dict[str, list[dict[str, Any]]],
) -> None:
    def shoppers(name: str) -> set[str]:
        return {record["user_id"] for record in records[name]}

    def asked_series(name: str) -> set[str]:
        return {
            record["relevant_documents"][0]
            for record in records[name]
            if record["intent"] in {"find_title", "volume_availability"}
            and record["relevant_documents"][0].startswith("titles.csv#")
        }

    in_bundles = shoppers("first_bundle") | shoppers("second_bundle")
    series_in_bundles = asked_series("training") | asked_series("first_bundle") | asked_series("second_bundle")
    for name in UNSEEN:
        assert not shoppers(name) & in_bundles
        assert not asked_series(name) & series_in_bundles
    assert not shoppers("unseen_first") & shoppers("unseen_second")
    assert shoppers("first_bundle") & shoppers("second_bundle")


def test_near_duplicates_within_a_file_are_rare(records: dict[str, list[dict[str, Any]]]) -> None:
    for name, lines in records.items():
        words = [frozenset(normalise_text(record["text"]).split()) for record in lines]
        near = sum(
            any(similarity(first, second) >= 0.8 for other, second in enumerate(words) if other != place)
            for place, first in enumerate(words)
        )
        assert near / len(lines) <= 0.03, name


def test_between_six_and_twelve_of_a_hundred_messages_are_japanese(records: dict[str, list[dict[str, Any]]]) -> None:
    for name, lines in records.items():
        assert 0.06 <= sum(is_japanese(record["text"]) for record in lines) / len(lines) <= 0.12, name


def test_shoppers_write_one_to_six_messages_in_sessions_of_their_own(
    records: dict[str, list[dict[str, Any]]],
) -> None:
    for name in ("first_bundle", "second_bundle"):
        per_user = Counter(record["user_id"] for record in records[name])
        assert len(per_user) == 80
        assert set(per_user.values()) <= set(range(1, 7))
        owners: dict[str, set[str]] = defaultdict(set)
        for record in records[name]:
            owners[record["session_id"]].add(record["user_id"])
        assert all(len(users) == 1 for users in owners.values())
        assert len(owners) > 80


def test_messages_are_in_order_of_time_and_within_the_days_of_their_plan(paths: DemoPaths) -> None:
    for plan in read_plan().traffic:
        lines = (paths.training.parent / plan.file).read_text(encoding="utf-8").splitlines()
        moments = [datetime.fromisoformat(json.loads(line)["timestamp"]) for line in lines]
        start = datetime.combine(plan.first_day, datetime.min.time(), tzinfo=UTC)
        assert moments == sorted(moments)
        assert start <= moments[0]
        # A session that starts before midnight may end after it.
        assert moments[-1] < start + timedelta(days=plan.days, hours=1)


def test_order_numbers_are_the_only_thing_that_could_be_personal(records: dict[str, list[dict[str, Any]]]) -> None:
    texts = [record["text"] for lines in records.values() for record in lines]
    with_order = [text for text in texts if re.search(r"\bMA-\d{8}\b", text)]
    assert 1 <= len(with_order) <= 0.02 * len(texts)
    for text in texts:
        rest = re.sub(r"\bMA-\d{8}\b", "", text)
        assert "@" not in rest
        assert not re.search(r"\d{5,}", rest), text


def test_messages_are_short_and_hold_no_leftover_of_a_template(records: dict[str, list[dict[str, Any]]]) -> None:
    for lines in records.values():
        for record in lines:
            assert 2 <= len(record["text"]) <= LONGEST
            assert not re.search(r"[{}\[\]|]|=>|  ", record["text"]), record["text"]


def test_nothing_written_says_what_should_happen_with_it(records: dict[str, list[dict[str, Any]]]) -> None:
    base = {"text", "intent", "relevant_documents"}
    for name, lines in records.items():
        expected = base if name == "training" else base | {"user_id", "session_id", "timestamp"}
        assert all(set(record) == expected for record in lines)


def test_the_hand_written_files_stay_small() -> None:
    assert sum(path.stat().st_size for path in DATA.rglob("*") if path.is_file()) < 1_500_000


def test_no_invented_title_is_one_of_a_real_manga(shared_data: Path) -> None:
    catalogue = shared_data / "manga" / "anilist_manga.csv"
    with catalogue.open(encoding="utf-8", newline="") as handle:
        real = {row[key].strip().casefold() for row in csv.DictReader(handle) for key in ("eng_title", "rom_title")}
    ours = {name.casefold() for series in read_series() for name in (series.title, series.romaji) if name}
    assert ours & real == set()

"""`mangaassist simulate`: when the bundle is mined for its review queue, and that a second call asks nothing twice."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from upath import UPath

from mangaassist_assets.chatbot.reviewing import REVIEWER, ReviewReport
from mangaassist_assets.cli.commands import simulate
from mangaassist_assets.cli.session import CommandError
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.datasets.sources.utterances import Utterance
from mangaassist_assets.labelling.queue.stored_queue import ReviewQueue, queue_files
from tests.support.labelling import make_turn, queue_item

BUNDLE = "b1"
TRACES = [f"t{number}" for number in range(6)]
UTTERANCES = {trace_id: Utterance(text=trace_id, intent="gift_card") for trace_id in TRACES}


class Platform:
    """A store and a tracking server; mining asks about everything, as often as it is run."""

    def __init__(self, tmp_path, *, breaks: bool = False, reviewers: tuple[str, ...] = ()) -> None:
        self.store = SnapshotStore(UPath(tmp_path))
        self.reviewed: list[str] = []
        self.jobs: list[dict] = []
        self._breaks = breaks
        self.resources = SimpleNamespace(
            store=SimpleNamespace(snapshots=lambda: self.store),
            mlflow=SimpleNamespace(reviewer=lambda: self),
            labelling=SimpleNamespace(named_reviewers=lambda: reviewers),
        )

    def turns(self) -> dict:
        said = {"expected_intent": "gift_card", "reviewer": REVIEWER}
        return {one: make_turn(one, **(said if one in self.reviewed else {})) for one in TRACES}

    def record_review(self, trace_id, *, expected_intent, relevant_documents, reviewer):
        assert (expected_intent, relevant_documents, reviewer) == ("gift_card", (), REVIEWER)
        self.reviewed.append(trace_id)

    def register_bundle(self, bundle):
        assert bundle == BUNDLE

    def progress(self, line):
        assert BUNDLE in line

    def run_job(self, name, *, partition, assets, config):
        assert (name, partition, assets[-1]) == ("failure_mining", BUNDLE, "review_queue")
        self.jobs.append(config["review_queue"])
        if not self._breaks:
            self.queue(config["review_queue"]["budget"], turns=len(TRACES))
        return SimpleNamespace(succeeded=not self._breaks, errors=("tagged_traces: no server",))

    def queue(self, budget, *, turns):
        open_now = [one for one in TRACES if one not in self.reviewed][:budget]
        items = tuple(queue_item(one, rank) for rank, one in enumerate(open_now, start=1))
        self.store.write(
            "review_queue", queue_files(ReviewQueue(items=items, budget=budget, turns=turns)), partition=BUNDLE
        )


@pytest.fixture
def platform(tmp_path, monkeypatch):
    made = Platform(tmp_path)
    monkeypatch.setattr(simulate, "_turns", lambda session, _bundle: session.turns())
    return made


def review(platform, budget):
    return simulate._review(platform, UTTERANCES, release_bundle=BUNDLE, budget=budget)


def test_a_bundle_is_mined_with_the_budget_and_its_queue_answered(platform):
    assert review(platform, 4) == ReviewReport(asked_as_failures=4, reviews=4)
    assert platform.jobs == [{"budget": 4}]
    assert sorted(platform.reviewed) == TRACES[:4]


def test_a_reviewer_who_would_not_count_is_not_asked(tmp_path):
    others = Platform(tmp_path, reviewers=("aki",))
    with pytest.raises(CommandError, match="aki are the only reviewers"):
        review(others, 4)
    assert (others.jobs, others.reviewed) == ([], [])


def test_without_a_budget_nothing_is_mined_and_nobody_is_asked(platform):
    assert review(platform, 0) == ReviewReport()
    assert (platform.jobs, platform.reviewed) == ([], [])


def test_a_second_call_mines_nothing_and_says_nothing(platform):
    review(platform, 4)
    assert review(platform, 4) == ReviewReport(reviews=4)
    assert (len(platform.jobs), len(platform.reviewed)) == (1, 4)


def test_a_queue_that_is_answered_to_its_end_is_not_made_again(platform):
    assert review(platform, 50).reviews == len(TRACES)
    assert review(platform, 50) == ReviewReport(reviews=len(TRACES))
    assert len(platform.jobs) == 1


def test_a_queue_of_all_the_traffic_is_answered_as_it_is(platform):
    platform.queue(6, turns=len(TRACES))
    assert review(platform, 3).reviews == 3
    assert platform.jobs == []


@pytest.mark.parametrize(("budget", "turns"), [(6, 5), (2, 6)], ids=["less traffic", "a smaller budget"])
def test_a_queue_of_less_is_made_anew(platform, budget, turns):
    platform.queue(budget, turns=turns)
    assert review(platform, 3).reviews == 3
    assert platform.jobs == [{"budget": 3}]


def test_a_bundle_that_cannot_be_mined_is_said_so(tmp_path, platform):
    broken = Platform(tmp_path / "broken", breaks=True)
    with pytest.raises(CommandError, match="could not be mined for its review queue: tagged_traces: no server"):
        review(broken, 3)
    assert platform.reviewed == []

"""Votes on traces, counted without looking at all of them every time."""

from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.triggers.thumbs import (
    CHEAP,
    COUNT_AGAIN_MS,
    RECENT_MS,
    ThumbHistory,
    ThumbOnTrace,
    Votes,
    votes_on_traces,
)

NOW = 1_800_000_000_000


class Traces:
    def __init__(self, *thumbs: ThumbOnTrace) -> None:
        self.thumbs = list(thumbs)
        self.asked: list[int] = []

    def after(self, timestamp_ms: int) -> list[ThumbOnTrace]:
        self.asked.append(timestamp_ms)
        return [one for one in self.thumbs if one.timestamp_ms > timestamp_ms]


def thumb(timestamp_ms: int, *, down: bool = True, bundle: str = "b1") -> ThumbOnTrace:
    feedback = "thumbs_down" if down else "thumbs_up"
    return ThumbOnTrace(timestamp_ms=timestamp_ms, release_bundle=bundle, feedback=feedback)


def test_few_thumbs_are_counted_afresh_at_every_look():
    traces = Traces(thumb(1), thumb(NOW, down=False))
    votes, history = votes_on_traces(ThumbHistory(), traces.after, now_ms=NOW)
    assert votes == {"b1": Votes(up=1, down=1)}
    traces.thumbs.append(thumb(2))
    assert votes_on_traces(history, traces.after, now_ms=NOW + 1)[0] == {"b1": Votes(up=1, down=2)}


def test_of_many_thumbs_only_recent_ones_are_read_until_the_history_is_due():
    old = [thumb(1_000 + number) for number in range(CHEAP)]
    traces = Traces(*old, thumb(NOW - 1, bundle="b2"))
    _, history = votes_on_traces(ThumbHistory(), traces.after, now_ms=NOW)
    traces.thumbs += [thumb(NOW), thumb(5)]
    votes, same = votes_on_traces(history, traces.after, now_ms=NOW + COUNT_AGAIN_MS - 1)
    assert votes == {"b1": Votes(down=CHEAP + 1), "b2": Votes(down=1)}
    assert same == history
    assert traces.asked == [-1, NOW - 1 - RECENT_MS]
    votes, _ = votes_on_traces(history, traces.after, now_ms=NOW + COUNT_AGAIN_MS)
    assert votes["b1"] == Votes(down=CHEAP + 2)


def test_a_clock_that_runs_ahead_does_not_make_all_that_comes_old():
    traces = Traces(*[thumb(1) for _ in range(CHEAP)], thumb(4_102_444_800_000))
    _, history = votes_on_traces(ThumbHistory(), traces.after, now_ms=NOW)
    traces.thumbs.append(thumb(NOW))
    assert votes_on_traces(history, traces.after, now_ms=NOW + 1)[0]["b1"].down == CHEAP + 2


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), max_size=30), st.integers(0, 3))
def test_what_is_remembered_and_what_is_read_are_all_votes_once(spread, looks):
    traces = Traces(*[thumb(1) for _ in range(CHEAP + 1)])
    history = ThumbHistory()
    for days, down in spread:
        traces.thumbs.append(thumb(NOW - days * RECENT_MS // 2, down=down))
    for look in range(looks + 1):
        votes, history = votes_on_traces(history, traces.after, now_ms=NOW + look)
    assert votes["b1"] == Votes(
        up=sum(one.feedback == "thumbs_up" for one in traces.thumbs),
        down=sum(one.feedback == "thumbs_down" for one in traces.thumbs),
    )

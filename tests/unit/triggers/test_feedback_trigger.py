"""When complaints start a retraining, from thumbs to what fires, without Dagster."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.core.codecs import from_json
from mangaassist_assets.core.snapshots import canonical_json
from mangaassist_assets.triggers.evidence import Reference
from mangaassist_assets.triggers.feedback_trigger import run_key
from mangaassist_assets.triggers.production_changes import ProductionChange
from mangaassist_assets.triggers.settings import TriggerConfig
from mangaassist_assets.triggers.trigger_state import TriggerState
from mangaassist_assets.triggers.votes import TurnFacts
from tests.support.feedback_triggers import BUNDLE, MINUTE_MS, START_MS, Trigger, thumb, thumbs

HOUR_MS = 60 * MINUTE_MS
BEFORE = "2026.03.10-rc1"


def with_past(**options) -> Trigger:
    """A trigger that knows 2,000 votes of the bundle before, a tenth of them down."""
    state = TriggerState(generation="00000000", past={BEFORE: {"all": Reference(down=200.0, votes=2_000.0)}})
    return Trigger(state=state, known=(BEFORE, BUNDLE), order=(BEFORE,), **options)


def test_a_rise_from_the_first_vote_is_found_against_the_bundle_before():
    (fired,) = with_past().hear(thumbs(400, share=0.3))
    assert (fired.release_bundle, fired.epoch) == (BUNDLE, 1)
    assert fired.nearest[0].stream == "all"
    assert "of 1.33e+04" in fired.sentence
    assert "after 10% of" in fired.sentence


def test_the_same_share_as_before_does_not_fire_and_says_why():
    trigger = with_past()
    assert not trigger.hear(thumbs(3_000, share=0.1))
    found = trigger.look()
    assert found.bundles[0].outcome == "quiet"
    assert f"0 new events, 0 counted; {BUNDLE}: all: evidence" in found.reason()


def test_a_rise_after_many_quiet_votes_is_found_as_soon_as_an_early_one():
    waited = []
    for quiet in (500, 6_000):
        trigger = with_past()
        assert not trigger.hear(thumbs(quiet, share=0.08))
        later = thumbs(400, share=0.3, first=quiet)
        waited.append(next(n for n in range(20, 420, 20) if trigger.hear(later[n - 20 : n])))
    assert max(waited) <= 160
    assert abs(waited[0] - waited[1]) <= 40


def test_the_first_bundle_ever_is_compared_with_its_own_beginning():
    trigger = Trigger()
    reason = trigger.look(thumbs(60, share=0.9)).reason()
    assert f"{BUNDLE}: 60 votes, needed 100 to compare with" in reason
    trigger = Trigger()
    assert not trigger.hear(thumbs(1_000, share=0.1))
    assert trigger.hear(thumbs(300, share=0.4, first=1_000))


def test_an_expected_share_judges_the_first_bundle():
    trigger = Trigger(config=TriggerConfig(expected_share=0.1))
    assert len(trigger.hear(thumbs(100, share=0.6))) == 1


def test_one_shopper_with_ten_thousand_thumbs_down_fires_nothing_and_pushes_nobody_out():
    trigger = with_past()
    assert not trigger.hear(thumbs(500, share=0.1))
    flood = [
        thumb(500, down=True, shopper="angry", trace_id=f"tr-a{n}", event=f"e-a{n}", session=f"s-{n}")
        for n in range(10_000)
    ]
    found = [trigger.look(flood[start : start + 5_000]) for start in (0, 5_000)]
    assert not any(one.fired for one in found)
    assert found[0].heard.over_cap == 4_995
    assert len(trigger.state.bundles[BUNDLE].window.votes) == 505


def test_one_session_counts_three_times_whoever_it_says_to_be():
    trigger = with_past()
    flood = [thumb(n, down=True, session="one") for n in range(300)]
    assert not trigger.hear(flood)
    assert len(trigger.state.bundles[BUNDLE].window.votes) == 3


def test_colluders_with_many_votes_each_fire_nothing_where_others_are_as_before():
    trigger = with_past()
    assert not trigger.hear(thumbs(1_000, share=0.1))
    arrivals = []
    for shopper in range(900):
        colludes = shopper % 20 == 0
        for vote in range(5 if colludes else 2):
            number = 1_000 + len(arrivals)
            down = colludes or (2 * shopper + vote) % 10 == 3
            arrivals.append(thumb(number, down=down, shopper=f"of-many-{shopper}"))
    assert not trigger.hear(arrivals)
    assert "without the" in trigger.look().reason()


def test_few_shoppers_are_no_quorum():
    trigger = with_past()
    trigger.hear(thumbs(300, share=0.1))
    few = [thumb(300 + n, down=True, shopper=f"few-{n % 12}") for n in range(60)]
    assert not trigger.hear(few)
    assert "12 shoppers complain, needed 15" in trigger.look().reason()


def test_a_bundle_that_nobody_knows_never_fires_and_counts_once_it_is_known():
    trigger = with_past()
    ghost = thumbs(900, share=1.0, bundle="never-was")
    assert not trigger.hear(ghost)
    found = trigger.look()
    assert "900 of bundles that nobody knows" in found.reason()
    assert set(found.state.bundles) == set()
    trigger.known = (BEFORE, "never-was")
    assert [one.release_bundle for one in trigger.look().fired] == ["never-was"]


def test_a_bundle_that_was_deleted_does_not_fire_and_its_votes_stay_a_measure():
    trigger = with_past()
    trigger.hear(thumbs(300, share=0.1))
    trigger.known = (BEFORE,)
    trigger.now_ms += 400 * MINUTE_MS
    found = trigger.look(thumbs(300, share=0.9, first=300))
    assert not found.bundles
    assert found.state.past[BUNDLE]["all"] == Reference(down=30.0, votes=300.0)


def test_no_more_thumbs_wait_than_there_is_room_for():
    trigger = with_past(config=TriggerConfig(waiting_votes=50))
    found = trigger.look(thumbs(80, share=1.0, bundle="never-was"))
    assert (found.heard.unknown_bundle, found.heard.let_go) == (50, 30)


def test_a_thumb_without_bundle_or_shopper_counts_when_its_turn_is_on_record():
    trigger = with_past()
    unnamed = thumb(1, down=True, bundle=None, shopper="")._replace(shopper=None)
    found = trigger.look([unnamed])
    assert (found.heard.waiting, found.heard.counted) == (1, 0)
    fact = TurnFacts("tr-1", BUNDLE, "session", None, "search", None, None)
    found = trigger.look(facts={"tr-1": fact})
    assert (found.heard.waiting, found.heard.counted) == (0, 1)
    assert trigger.state.bundles[BUNDLE].window.votes[0].shopper == "session"


def test_an_event_of_another_bundle_than_its_turn_is_a_stray():
    fact = TurnFacts("tr-1", BEFORE, "session", None, None, None, None)
    found = with_past().look([thumb(1, down=True)], facts={"tr-1": fact})
    assert (found.heard.strays, found.heard.counted) == (1, 0)


def test_the_rise_of_one_intent_is_found_though_the_bundle_as_a_whole_is_quiet():
    trigger = with_past()

    def tell(arrivals):
        return {
            one.trace_id: TurnFacts(
                one.trace_id,
                BUNDLE,
                one.shopper,
                None,
                "returns" if int(one.trace_id[3:]) % 10 == 0 else "other",
                None,
                None,
            )
            for one in arrivals
        }

    quiet = thumbs(1_500, share=0.1)
    for start in range(0, 1_500, 100):
        trigger.look(quiet[start : start + 100], facts=tell(quiet[start : start + 100]))
    fired = []
    for start in range(1_500, 3_000, 100):
        part = [thumb(n, down=n % 10 == 0 or n % 11 == 0) for n in range(start, start + 100)]
        fired += trigger.look(part, facts=tell(part)).fired
    assert "intent returns" in {one.stream for one in fired[0].nearest if one.fires}


def test_a_cluster_that_was_first_seen_in_the_window_is_no_stream():
    trigger = with_past()
    arrivals = thumbs(400, share=0.2)
    facts = {
        one.trace_id: TurnFacts(one.trace_id, BUNDLE, one.shopper, None, None, "fc-new" if one.down else None, None)
        for one in arrivals
    }
    streams = {one.stream for found in trigger.look(arrivals, facts=facts).bundles for one in found.nearest}
    assert "cluster fc-new" not in streams


def test_after_a_firing_the_new_level_is_the_measure_and_a_recovery_restores_the_old_one():
    trigger = with_past()
    trigger.hear(thumbs(500, share=0.1))
    assert len(trigger.hear(thumbs(2_000, share=0.3, first=500))) == 1
    found = [trigger.look(thumbs(200, share=0.06, first=2_500 + 200 * n)).bundles[0] for n in range(3)]
    assert any(one.recovered for one in found)
    (again,) = trigger.hear(thumbs(600, share=0.3, first=5_000))
    assert again.epoch == 2
    assert again.nearest[0].share_before < 0.15


def test_within_the_cooldown_nothing_fires_and_after_it_it_does():
    trigger = with_past()
    assert trigger.hear(thumbs(400, share=0.3))
    fired_ms = trigger.state.bundles[BUNDLE].fired_ms
    assert not [one for one in trigger.hear(thumbs(600, share=0.9, first=400)) if one.epoch > 2]
    trigger.now_ms = fired_ms + HOUR_MS
    assert trigger.look().bundles[0].outcome == "cooling down"
    assert "needed 24" in trigger.look().reason()
    trigger.now_ms = fired_ms + 25 * HOUR_MS
    assert trigger.look().fired[0].epoch == 2


def changed(at_ms: int) -> ProductionChange:
    return ProductionChange(component="configuration prompts", before="3", after="4", at_ms=at_ms, is_endpoint=False)


def test_a_change_of_production_around_the_rise_holds_the_retraining_and_is_asked_about_once():
    trigger = with_past()
    trigger.hear(thumbs(500, share=0.1))
    trigger.changes = (changed(START_MS + 510 * MINUTE_MS),)
    rise = thumbs(200, share=0.4, first=500)
    trigger.now_ms = rise[-1].time_ms
    (found,) = trigger.look(rise).bundles
    assert found.outcome == "held"
    assert "configuration prompts 3 → 4 changed around it" in found.sentence
    assert found.ask == found.changes == trigger.changes
    (again,) = trigger.look().bundles
    assert (again.outcome, again.ask) == ("held", ())
    trigger.now_ms += 72 * HOUR_MS
    assert trigger.look().fired


def test_a_change_long_before_the_rise_holds_nothing():
    trigger = with_past(changes=(changed(START_MS - 72 * HOUR_MS),))
    assert trigger.hear(thumbs(400, share=0.3))


def test_the_run_key_names_bundle_and_epoch_and_tells_states_apart():
    trigger = with_past()
    (fired,) = trigger.hear(thumbs(400, share=0.3))
    assert run_key(trigger.state, fired) == f"feedback-{BUNDLE}-00000000-1"
    assert run_key(replace(trigger.state, generation="1"), fired) != run_key(trigger.state, fired)


def test_what_is_remembered_is_bounded():
    trigger = Trigger(known=tuple(f"b{n}" for n in range(40)))
    sizes = []
    for n in range(40):
        trigger.order = trigger.known[:n]
        trigger.hear(thumbs(4_000, share=0.1, first=4_000 * n, bundle=f"b{n}"), every=4_000)
        sizes.append(len(canonical_json(trigger.state)))
    assert len(trigger.state.bundles) == 8
    assert sizes[-1] < 1.1 * sizes[8]


def test_the_state_is_the_same_after_it_was_stored():
    trigger = with_past()
    trigger.hear(thumbs(400, share=0.3))
    assert from_json(TriggerState, canonical_json(trigger.state)) == trigger.state


votes = st.lists(
    st.builds(
        lambda turn, shopper, minute, down, event: thumb(
            minute, down=down, shopper=f"s{shopper}", trace_id=f"tr-{turn}", event=f"e{event}"
        ),
        st.integers(0, 30),
        st.integers(0, 12),
        st.integers(0, 50),
        st.booleans(),
        st.integers(0, 10_000),
    ),
    max_size=60,
    unique_by=lambda one: one.event,
)


@settings(max_examples=150, deadline=None)
@given(votes, st.randoms(use_true_random=False))
def test_the_order_of_thumbs_within_a_look_does_not_matter(arrivals, chance):
    shuffled = list(arrivals)
    chance.shuffle(shuffled)
    one, other = with_past(), with_past()
    assert one.look(arrivals).bundles == other.look(shuffled).bundles
    assert one.state == other.state


@settings(max_examples=150, deadline=None)
@given(votes)
def test_the_same_thumbs_again_change_nothing(arrivals):
    trigger = with_past(config=TriggerConfig(shopper_votes=100))
    trigger.look(arrivals)
    before = trigger.state
    found = trigger.look([*arrivals, *arrivals])
    assert found.state == before
    assert found.heard.counted == 0


@settings(max_examples=40, deadline=None)
@given(st.integers(20, 200), st.floats(0.25, 0.9))
def test_the_same_events_twice_fire_once(every, share):
    trigger = with_past()
    arrivals = thumbs(600, share=share)
    first = trigger.hear(arrivals, every=every)
    again = trigger.hear(arrivals, every=every)
    assert len(first) == 1
    assert not again


@settings(max_examples=60, deadline=None)
@given(votes)
def test_a_shopper_has_one_vote_a_turn_and_it_is_the_last_word(arrivals):
    trigger = with_past(config=TriggerConfig(shopper_votes=100))
    trigger.look(arrivals)
    kept = trigger.state.bundles[BUNDLE].window.votes if arrivals else ()
    last = {}
    for one in sorted(arrivals, key=lambda one: (one.time_ms, one.event)):
        last[one.trace_id, one.shopper] = one.down
    assert {(one.turn, one.shopper): one.down for one in kept} == last
    assert len(kept) == len(last)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_shares_of_nothing_and_of_all_are_no_error(share):
    trigger = with_past()
    trigger.hear(thumbs(500, share=share))
    assert trigger.look().reason()

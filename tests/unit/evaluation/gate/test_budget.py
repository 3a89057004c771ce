"""Claims about the budget of false promotions."""

from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.evaluation.gate.budget import YEAR_MS, Look, promotion_level
from mangaassist_assets.evaluation.gate.decision import GateConfig

CONFIG = GateConfig()
WEEK_MS = 7 * 86_400_000


def looked(times: list[int]) -> list[Look]:
    """Take a look at a new challenger at each time."""
    looks: list[Look] = []
    for number, now in enumerate(times):
        named = {"champion": "1", "challenger": str(number), "evidence": "one"}
        level = promotion_level(looks, **named, now_ms=now, config=CONFIG).level
        looks.append(Look(**named, judged_ms=now, level=level))
    return looks


@given(st.lists(st.integers(0, 3 * YEAR_MS), max_size=200))
def test_within_any_year_the_levels_add_up_to_the_budget_at_most(times: list[int]) -> None:
    looks = looked(sorted(times))
    for first in looks:
        year = [one.level for one in looks if 0 <= one.judged_ms - first.judged_ms < YEAR_MS]
        assert sum(year) <= CONFIG.false_promotions_a_year + 1e-12


def test_the_first_look_is_nearly_as_sharp_as_one_test_and_no_weekly_look_is_hopeless() -> None:
    levels = [one.level for one in looked([week * WEEK_MS for week in range(52)])]
    assert levels[0] > 0.04
    assert levels == sorted(levels, reverse=True)
    assert levels[-1] > 0.0003


def test_the_same_evidence_again_is_the_same_look() -> None:
    (first,) = looked([0])
    again = promotion_level([first], champion="1", challenger="0", evidence="one", now_ms=WEEK_MS, config=CONFIG)
    assert (again.level, again.look, again.spent) == (first.level, 1, 0.0)
    more = promotion_level([first], champion="1", challenger="0", evidence="two", now_ms=WEEK_MS, config=CONFIG)
    assert (more.look, more.spent) == (2, first.level)
    assert more.level < first.level
    assert more.left == CONFIG.false_promotions_a_year - first.level - more.level


def test_a_new_champion_and_a_year_gone_by_start_a_new_budget() -> None:
    looks = looked([0, 1, 2])
    named = {"challenger": "x", "evidence": "one", "config": CONFIG}
    assert promotion_level(looks, champion="2", now_ms=3, **named).level == looks[0].level
    assert promotion_level(looks, champion="1", now_ms=2 + YEAR_MS, **named).level == looks[0].level
    assert promotion_level(looks, champion="1", now_ms=3, **named).level < looks[2].level


def test_the_level_is_never_easier_than_alpha() -> None:
    strict = GateConfig(alpha=0.01)
    assert promotion_level([], champion="1", challenger="2", evidence="", now_ms=0, config=strict).level == 0.01

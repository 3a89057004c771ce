"""The satisfaction report: shares of counts, and what counts as a move."""

from __future__ import annotations

import pytest

from mangaassist_assets.reporting.groups import NOT_STATED, largest_groups, shown_name
from mangaassist_assets.reporting.satisfaction.chart import satisfaction_chart
from mangaassist_assets.reporting.satisfaction.report import GROUP_SCHEMA, GroupCounts, build_report
from mangaassist_assets.reporting.warehouse.queries import OVERALL, SATISFACTION_DIMENSIONS

BUNDLE, EARLIER = "2026.03.24-rc2", "2026.03.10-rc1"


def counts(up, down, unrated=0, *, split=None):
    """Return counts of a bundle; `split` are the thumbs up and down of prompt p1, the rest has no prompt version."""
    whole = {"turns": up + down + unrated, "thumbs_up": up, "thumbs_down": down}
    groups = [GroupCounts(dimension=OVERALL, value=None, **whole)]
    for dimension in SATISFACTION_DIMENSIONS:
        if dimension == "prompt_version" and split:
            groups.append(
                GroupCounts(dimension=dimension, value="p1", turns=sum(split), thumbs_up=split[0], thumbs_down=split[1])
            )
            rest = (up - split[0], down - split[1])
            groups.append(
                GroupCounts(
                    dimension=dimension, value=None, turns=sum(rest) + unrated, thumbs_up=rest[0], thumbs_down=rest[1]
                )
            )
        else:
            groups.append(GroupCounts(dimension=dimension, value=None, **whole))
    return groups


def test_a_share_comes_with_its_count_its_interval_and_its_response_rate():
    report = build_report(counts(7, 43, 50), release_bundle=BUNDLE)
    overall = report.overall
    assert (overall.turns, overall.rated, overall.satisfaction, overall.response_rate) == (100, 50, 0.14, 0.5)
    assert (overall.low, overall.high) == (pytest.approx(0.0695, abs=1e-4), pytest.approx(0.2619, abs=1e-4))


def test_a_difference_is_flagged_only_where_its_interval_excludes_zero():
    few = build_report(counts(8, 2), release_bundle=BUNDLE, compared_with=EARLIER, before=counts(5, 5)).overall
    many = build_report(counts(800, 200), release_bundle=BUNDLE, compared_with=EARLIER, before=counts(500, 500)).overall
    assert few.difference == many.difference == pytest.approx(0.3)
    assert few.difference_low < 0 < few.difference_high
    assert (few.moved, many.moved) == (False, True)


def test_a_group_that_is_new_has_nothing_to_be_compared_with():
    report = build_report(
        counts(6, 4, split=(3, 1)), release_bundle=BUNDLE, compared_with=EARLIER, before=counts(500, 500)
    )
    new = next(group for group in report.of("prompt_version") if group.value == "p1")
    assert (new.difference, new.satisfaction_before, new.rated_before, new.moved) == (None, None, None, False)
    assert report.overall.difference is not None


def test_without_ratings_there_is_no_share_and_no_move():
    overall = build_report(counts(0, 0, 9), release_bundle=BUNDLE, compared_with=EARLIER, before=counts(5, 5)).overall
    assert (overall.satisfaction, overall.low, overall.difference, overall.moved) == (None, None, None, False)
    assert overall.response_rate == 0


def test_groups_that_do_not_add_up_are_refused():
    broken = counts(6, 4)
    broken[1] = GroupCounts(dimension=SATISFACTION_DIMENSIONS[0], value="p1", turns=9, thumbs_up=5, thumbs_down=4)
    with pytest.raises(ValueError, match=r"groups by prompt_version of 2026\.03\.24-rc2 add up to"):
        build_report(broken, release_bundle=BUNDLE)


def test_the_frame_has_a_row_a_group_and_names_what_is_not_stated():
    report = build_report(counts(6, 4, split=(3, 1)), release_bundle=BUNDLE)
    assert report.frame().schema == GROUP_SCHEMA
    assert [group.label for group in report.of("prompt_version")] == [NOT_STATED, "p1"]


def test_tenants_and_teams_are_groups_of_their_own():
    groups = [one for one in counts(6, 4) if one.dimension not in {"tenant", "team"}]
    for dimension in ("tenant", "team"):
        groups += [
            GroupCounts(dimension=dimension, value="osaka", turns=7, thumbs_up=6, thumbs_down=1),
            GroupCounts(dimension=dimension, value=None, turns=3, thumbs_up=0, thumbs_down=3),
        ]
    report = build_report(groups, release_bundle=BUNDLE)
    for dimension in ("tenant", "team"):
        osaka = report.of(dimension)[0]
        assert (osaka.value, osaka.turns, osaka.satisfaction) == ("osaka", 7, pytest.approx(6 / 7))
        assert osaka.low < 6 / 7 < osaka.high


@pytest.mark.parametrize("name", ["$x_{1}$", "<b>", "\u202eevil", "\x9b31m", "漫画 チーム", "x" * 250, "\\"])
def test_a_team_may_be_called_anything(name):
    whole = {"turns": 10, "thumbs_up": 6, "thumbs_down": 4}
    groups = [one for one in counts(6, 4) if one.dimension != "team"]
    report = build_report([*groups, GroupCounts(dimension="team", value=name, **whole)], release_bundle=BUNDLE)
    assert satisfaction_chart(report).startswith(b"\x89PNG")


def test_a_page_shows_the_largest_groups_of_each_dimension_and_counts_the_others():
    rows = [{"dimension": OVERALL, "value": None, "turns": 400}]
    rows += [{"dimension": "team", "value": f"t{n:03}", "turns": n} for n in range(40)]
    rows += [{"dimension": "tenant", "value": None, "turns": 400}]
    shown = largest_groups(rows, by="turns", most=12)
    assert [row["value"] for row in shown.rows] == [None, *(f"t{n:03}" for n in range(28, 40))]
    assert shown.said == "28 more by team"


def test_a_name_from_outside_stays_on_its_line():
    assert shown_name("a\u2028b\x9b\u202ec") == "a�b��c"
    assert shown_name(None) == NOT_STATED
    assert len(shown_name("x" * 250)) == 60


def test_the_picture_is_small_and_the_same_for_the_same_report():
    full = build_report(
        counts(800, 200, 99, split=(300, 10)), release_bundle=BUNDLE, compared_with=EARLIER, before=counts(500, 500)
    )
    nothing = build_report(
        [GroupCounts(dimension=OVERALL, value=None, turns=0, thumbs_up=0, thumbs_down=0)], release_bundle=BUNDLE
    )
    for report in (full, nothing):
        picture = satisfaction_chart(report)
        assert picture.startswith(b"\x89PNG")
        assert len(picture) < 60_000
        assert picture == satisfaction_chart(report)

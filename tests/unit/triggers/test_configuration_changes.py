import pytest

from mangaassist_assets.triggers.configuration_changes import ConfigurationState, find_configuration_changes
from mangaassist_assets.triggers.cursors import CursorError, from_cursor, to_cursor


def again(state: ConfigurationState) -> ConfigurationState | None:
    """Return the state as the next look finds it."""
    return from_cursor("configuration_changes", 1, to_cursor("configuration_changes", 1, state), ConfigurationState)


def test_the_first_look_is_a_baseline_and_no_change():
    changes = find_configuration_changes(None, {"prompts": 3})
    assert changes.changed == ()
    assert changes.state.versions == {"prompts": "3"}
    assert changes.reason == "first look, baseline: prompts 3"


def test_a_new_version_is_one_change_and_no_change_at_the_next_look():
    baseline = find_configuration_changes(None, {"prompts": 3, "routing": 1}).state
    changes = find_configuration_changes(baseline, {"prompts": 4, "routing": 1})
    assert [(one.profile, one.before, one.after) for one in changes.changed] == [("prompts", "3", "4")]
    assert changes.reason == "changed: prompts 3 → 4"
    assert find_configuration_changes(changes.state, {"prompts": "4", "routing": "1"}).changed == ()


def test_going_back_and_forth_gives_three_changes_with_three_run_keys():
    state = find_configuration_changes(None, {"prompts": 1}).state
    keys = []
    for version in (2, 1, 2):
        changes = find_configuration_changes(state, {"prompts": version})
        state = again(changes.state)
        keys += [one.run_key for one in changes.changed]
    assert len(set(keys)) == 3


def test_a_profile_that_is_missing_for_a_while_did_not_change():
    state = find_configuration_changes(None, {"prompts": 1, "routing": 1}).state
    gone = find_configuration_changes(state, {"routing": 1})
    assert gone.changed == ()
    assert find_configuration_changes(gone.state, {"prompts": 1, "routing": 1}).changed == ()


def test_a_profile_that_appears_later_is_a_change():
    state = find_configuration_changes(None, {}).state
    (change,) = find_configuration_changes(state, {"guardrails": 1}).changed
    assert (change.before, change.after) == (None, "1")


def test_a_damaged_cursor_says_to_reset_it():
    assert from_cursor("configuration_changes", 1, "", ConfigurationState) is None
    for text in ("x", '{"kind": "configuration_changes", "version": 1, "state": {"versions": {"a": 1}, "edges": 0}}'):
        with pytest.raises(CursorError, match="reset the sensor's cursor"):
            from_cursor("configuration_changes", 1, text, ConfigurationState)

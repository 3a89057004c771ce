import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.triggers.configuration_changes import (
    ConfigurationDeployment,
    ConfigurationState,
    find_configuration_changes,
)
from mangaassist_assets.triggers.cursors import CursorError, from_cursor, to_cursor

STATES = ("COMPLETE", "DEPLOYING", "BAKING", "VALIDATING", "ROLLING_BACK", "ROLLED_BACK", "REVERTED")


def again(state: ConfigurationState) -> ConfigurationState | None:
    """Return the state as the next look finds it."""
    return from_cursor("configuration_changes", 2, to_cursor("configuration_changes", 2, state), ConfigurationState)


class AppConfig:
    """What AppConfig lists, deployment by deployment."""

    def __init__(self) -> None:
        self.listed: list[ConfigurationDeployment] = []

    def deploy(self, profile, version, state="COMPLETE", **fields):
        number = len(self.listed) + 1
        self.listed.append(
            ConfigurationDeployment(number=number, profile=profile, version=str(version), state=state, **fields)
        )
        return number

    def becomes(self, number, state):
        old = self.listed[number - 1]
        self.listed[number - 1] = ConfigurationDeployment(
            number=number, profile=old.profile, version=old.version, state=state
        )


@pytest.fixture
def app_config():
    return AppConfig()


def look(app_config, state=None):
    changes = find_configuration_changes(state, app_config.listed)
    return changes, again(changes.state)


def test_the_first_look_is_a_baseline_and_no_change(app_config):
    app_config.deploy("prompts", 3)
    changes, state = look(app_config)
    assert (changes.changed, changes.undone) == ((), ())
    assert [one.version for one in changes.in_force] == ["3"]
    assert state.versions == {"prompts": "3"}
    assert changes.reason == "first look, baseline: prompts 3"


def test_a_new_version_is_one_change_and_no_change_at_the_next_look(app_config):
    app_config.deploy("prompts", 3)
    app_config.deploy("routing", 1)
    _, state = look(app_config)
    app_config.deploy("prompts", 4)
    changes, state = look(app_config, state)
    assert [(one.profile, one.before, one.after) for one in changes.changed] == [("prompts", "3", "4")]
    assert changes.reason == "changed: prompts 3 → 4"
    assert look(app_config, state)[0].changed == ()


def test_going_back_and_forth_gives_three_changes_with_three_run_keys(app_config):
    app_config.deploy("prompts", 1)
    _, state = look(app_config)
    keys = []
    for version in (2, 1, 2):
        app_config.deploy("prompts", version)
        changes, state = look(app_config, state)
        keys += [one.run_key for one in changes.changed]
    assert len(set(keys)) == 3


def test_the_same_version_deployed_again_is_no_change(app_config):
    app_config.deploy("prompts", 1)
    _, state = look(app_config)
    app_config.deploy("prompts", 1)
    assert look(app_config, state)[0].changed == ()


def test_a_profile_that_appears_later_is_a_change(app_config):
    _, state = look(app_config)
    app_config.deploy("guardrails", 1)
    (change,) = look(app_config, state)[0].changed
    assert (change.before, change.after) == (None, "1")


def test_a_deployment_under_way_is_waited_for_and_named(app_config):
    app_config.deploy("routing", 1)
    _, state = look(app_config)
    number = app_config.deploy("routing", 2, "BAKING", percentage=100.0)
    changes, state = look(app_config, state)
    assert changes.changed == ()
    assert changes.reason == "unchanged: routing 1; under way, waited for: routing 2 BAKING 100 %"
    app_config.becomes(number, "COMPLETE")
    changes, _ = look(app_config, state)
    assert [one.run_key for one in changes.changed] == ["configuration-routing-2-2"]


def test_a_rollback_is_recorded_once_and_triggers_nothing(app_config):
    app_config.deploy("routing", 1)
    _, state = look(app_config)
    app_config.deploy("routing", 2, "ROLLED_BACK")
    changes, state = look(app_config, state)
    assert (changes.changed, [str(one) for one in changes.undone]) == ((), ["routing 2 ROLLED_BACK"])
    assert changes.reason == "unchanged: routing 1; undone, which triggers nothing: routing 2 ROLLED_BACK"
    assert look(app_config, state)[0].undone == ()


def test_a_version_that_holds_again_because_the_next_was_reverted_triggers_nothing(app_config):
    app_config.deploy("routing", 1)
    _, state = look(app_config)
    number = app_config.deploy("routing", 2)
    changes, state = look(app_config, state)
    assert len(changes.changed) == 1
    app_config.becomes(number, "REVERTED")
    changes, state = look(app_config, state)
    assert changes.changed == ()
    assert [(one.profile, one.version) for one in changes.in_force] == [("routing", "1")]
    assert [one.state for one in changes.undone] == ["REVERTED"]
    assert look(app_config, state)[0].reason == "unchanged: routing 1"
    app_config.deploy("routing", 2)
    assert [one.after for one in look(app_config, state)[0].changed] == ["2"]


def test_a_first_version_that_is_reverted_is_recorded_once(app_config):
    number = app_config.deploy("routing", 1)
    _, state = look(app_config)
    app_config.becomes(number, "REVERTED")
    changes, state = look(app_config, state)
    assert (changes.changed, len(changes.undone)) == ((), 1)
    assert look(app_config, state)[0].undone == ()


def test_an_application_that_was_made_anew_counts_its_deployments_from_one_and_is_a_change(app_config):
    for version in (1, 2, 3):
        app_config.deploy("routing", version)
    _, state = look(app_config)
    other = AppConfig()
    other.deploy("routing", 1)
    (change,) = look(other, state)[0].changed
    assert (change.before, change.after) == ("3", "1")


@given(
    st.lists(
        st.tuples(st.sampled_from(["prompts", "routing"]), st.integers(1, 3), st.sampled_from(STATES)), max_size=12
    ),
    st.randoms(use_true_random=False),
)
def test_every_change_has_its_own_key_and_no_look_without_an_event_finds_one(events, shuffled):
    app_config, keys = AppConfig(), []
    _, state = look(app_config)
    for profile, version, deployed in events:
        app_config.deploy(profile, version, deployed)
        shuffled.shuffle(listed := list(app_config.listed))
        changes = find_configuration_changes(state, listed)
        state = again(changes.state)
        keys += [one.run_key for one in changes.changed]
        assert find_configuration_changes(state, listed).changed == ()
        in_force = {one.profile: one.version for one in app_config.listed if one.state == "COMPLETE"}
        assert state.versions == in_force
    assert len(keys) == len(set(keys))


def test_a_damaged_cursor_says_to_reset_it():
    assert from_cursor("configuration_changes", 2, "", ConfigurationState) is None
    for text in ("x", '{"kind": "configuration_changes", "version": 2, "state": {"versions": {"a": 1}, "undone": 0}}'):
        with pytest.raises(CursorError, match="reset the sensor's cursor"):
            from_cursor("configuration_changes", 2, text, ConfigurationState)

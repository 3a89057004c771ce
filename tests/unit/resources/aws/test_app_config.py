"""AppConfig documents that grow and that break: what the chatbot reads, and what serves meanwhile."""

from __future__ import annotations

import json
import logging

import pytest

from mangaassist_assets.chatbot.configuration.fields import ConfigurationDocumentError
from mangaassist_assets.chatbot.orchestrator import ChatRequest
from mangaassist_assets.chatbot.parts import StageError
from mangaassist_assets.datasets.building.recorded_searches import live_first_stage, live_search
from mangaassist_assets.retrieval.tenants import ALL_TENANTS
from resources.aws.app_config import ConfigurationNotDeployedError
from tests.support.app_config_api import AppConfigInMemory, app_config_in_memory
from tests.support.store_chatbot import MemorySink, store_chatbot

ROUTING = {"version": "r1", "selected_chunks": 2, "rerank_candidates": 4}


@pytest.fixture
def api() -> AppConfigInMemory:
    made = AppConfigInMemory()
    made.put("prompts", {"version": "p1"})
    made.put("routing", ROUTING)
    made.put("guardrails", {"version": "g1"})
    return made


@pytest.fixture
def app_config(api):
    return app_config_in_memory(api)


def ask(configuration, sink=None):
    chatbot = store_chatbot(sink or MemorySink(), configuration=configuration)
    return chatbot.answer(ChatRequest(message="how do i return a book?", session_id="s", release_bundle="b"))


@pytest.mark.parametrize("profile", ["prompts", "routing", "guardrails"])
@pytest.mark.parametrize("value", [True, "canary", {"share": 0.1, "targets": ["a"]}, None, 3, [1]])
def test_a_field_that_is_new_to_us_stops_no_turn(api, app_config, profile, value):
    api.put(profile, {"version": "next", "rollout_plan": value})
    assert ask(app_config.configuration()).state == "OK"


def test_a_shadow_flag_alone_stops_no_turn(api, app_config):
    api.put("routing", {**ROUTING, "version": "r2", "shadow_mode": True})
    assert ask(app_config.configuration()).state == "OK"


def test_a_profile_that_is_new_to_us_stops_no_turn(api, app_config):
    api.put("prices", {"anything": [1, 2]})
    api.put("free_text", b"- yaml: maybe")
    assert ask(app_config.configuration()).state == "OK"


def test_deploying_keeps_fields_that_are_new_to_us(api, app_config):
    app_config.deploy("routing", {**ROUTING, "version": "r2", "rollout_plan": {"share": 0.1}})
    assert json.loads(api.versions["routing", 2])["rollout_plan"] == {"share": 0.1}
    assert not app_config.deploy("routing", {**ROUTING, "version": "r2", "rollout_plan": {"share": 0.1}}).changed


def test_a_document_from_before_a_field_existed_is_the_one_with_its_default(app_config):
    assert not app_config.deploy("routing", ROUTING).changed
    with pytest.raises(ConfigurationNotDeployedError, match="version 'r1' too"):
        app_config.deploy("routing", {**ROUTING, "temperature": 0.5})


def test_an_experiment_that_does_not_fit_what_is_in_force_is_refused_before_it_is_stored(api, app_config):
    arms = {"control": {"share": 0.5}, "deep": {"share": 0.5, "routing": {"version": "d", "selected_chunks": 9}}}
    document = {"version": "1", "experiments": {"depth": {"control": "control", "arms": arms}}}
    with pytest.raises(ConfigurationDocumentError, match=r"experiments\.depth\.arms\.deep\.routing: "):
        app_config.deploy("experiments", document)
    assert "experiments" not in api.profiles
    app_config.deploy("routing", {**ROUTING, "version": "r2", "rerank_candidates": 9})
    assert app_config.deploy("experiments", document).changed


BROKEN = [
    b"not json",
    b"[]",
    b"\xff",
    {"selected_chunks": 2},
    {"version": "r2", "selected_chunks": "2"},
    {"version": "r2", "selected_chunks": 0},
    {"version": "r2", "selected_chunks": 20, "rerank_candidates": 4},
    {"version": "r2", "shadow_mode": "on"},
]


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_running_chatbot_keeps_the_version_it_has_and_says_so(api, app_config, caplog, broken):
    configuration, sink = app_config.configuration(), MemorySink()
    assert ask(configuration, sink).state == "OK"
    api.put("routing", broken)
    with caplog.at_level(logging.WARNING):
        replies = [ask(configuration, sink) for _ in range(3)]
    assert [reply.state for reply in replies] == ["OK"] * 3
    assert [trace.tags["routing_policy_version"] for trace in sink.traces] == ["r1"] * 4
    (told,) = [one.getMessage() for one in caplog.records if "routing" in one.getMessage()]
    assert "the routing document is not valid: " in told
    assert told.endswith("version r1 still serves")
    # The next polls bring an empty body, which is no sign that all is well.
    assert set(configuration.failures) == {"routing"}
    api.put("routing", {**ROUTING, "version": "r3"})
    ask(configuration, sink)
    assert sink.traces[-1].tags["routing_policy_version"] == "r3"
    assert configuration.failures == {}


def test_a_refused_document_costs_no_new_session(api, app_config):
    configuration = app_config.configuration()
    ask(configuration)
    api.put("routing", b"broken")
    before = api.sessions
    ask(configuration)
    ask(configuration)
    # The profile that was never deployed is asked for once a minute, the others by their tokens.
    assert api.sessions == before


def test_an_outage_keeps_every_document(api, app_config):
    configuration = app_config.configuration()
    ask(configuration)
    api.down = True
    configuration.refresh()
    assert ask(configuration).state == "OK"
    assert configuration.failures["routing"] == "try again"
    api.down = False
    configuration.refresh()
    assert configuration.failures == {}


@pytest.mark.parametrize("broken", BROKEN, ids=str)
def test_a_chatbot_that_starts_over_a_broken_version_takes_the_last_one_that_was_valid(api, app_config, broken):
    api.put("routing", {**ROUTING, "version": "rolled-back"}, state="ROLLED_BACK")
    api.put("routing", broken)
    api.put("routing", broken)
    sink = MemorySink()
    assert ask(app_config.configuration(), sink).state == "OK"
    assert sink.traces[0].tags["routing_policy_version"] == "r1"


def test_a_chatbot_that_starts_with_nothing_but_a_broken_document_says_which_and_why():
    api = AppConfigInMemory()
    api.put("prompts", {"version": "p1"})
    api.put("routing", {"version": "r1", "vector_candidates": -1})
    api.put("guardrails", {"version": "g1"})
    with pytest.raises(StageError, match=r"no routing configuration can be used: .*vector_candidates: .*deploy one"):
        app_config_in_memory(api).configuration().routing()


def test_experiments_that_cannot_be_used_leave_a_chatbot_without_experiments(api, app_config):
    api.put("experiments", {"version": "1", "experiments": "none"})
    configuration, sink = app_config.configuration(), MemorySink()
    assert ask(configuration, sink).state == "OK"
    assert sink.traces[0].tags["experiment_id"] == "none"
    assert "experiments" in configuration.failures


def test_a_profile_that_is_new_since_the_chatbot_started_is_taken_up(api, app_config):
    configuration = app_config.configuration()
    assert configuration.experiments().experiments == {}
    assert configuration.failures == {}
    api.put("experiments", {"version": "1", "experiments": {"aa": {"control": "a", "arms": HALVES}}})
    configuration.refresh()
    assert set(configuration.experiments().experiments) == {"aa"}


class Search:
    """An index whose searches are only counted by their depth."""

    def __init__(self) -> None:
        self.limits: list[int] = []

    def index(self):
        return self

    def embedder(self):
        return self

    model_id = "m"

    def embed(self, texts, **_use):
        return [[1.0] for _ in texts]

    def live_generation(self):
        return "kb-1"

    def vector_search(self, _generation, _vector, *, limit, **_):
        self.limits.append(limit)
        return []

    def keyword_search(self, _generation, _query, *, limit, **_):
        self.limits.append(limit)
        return []


@pytest.mark.parametrize(
    "deployed",
    [
        [{"version": "r2", "vector_candidates": 7, "keyword_candidates": 3, "shadow_modes": True}],
        [{"version": "r2", "vector_candidates": 7, "keyword_candidates": 3}, *BROKEN],
    ],
    ids=["unknown field", "broken since"],
)
def test_datasets_search_as_deep_as_the_policy_that_serves(api, app_config, deployed):
    for document in deployed:
        api.put("routing", document)
    search = Search()
    routing = app_config.configuration().routing().retrieval
    live_search(search, search, routing)([])("a question", ALL_TENANTS)
    assert search.limits == [7, 3]
    settings = live_first_stage(search, search, routing).settings
    assert settings["vector_candidates"] == 7


HALVES = {"a": {"share": 0.5}, "b": {"share": 0.5}}


class TestReview:
    """What the refresh shows of each profile."""

    def test_unknown_fields_and_profiles_are_shown_and_are_no_problem(self, api, app_config):
        api.put("routing", {**ROUTING, "version": "r2", "selected_chunk": 3, "shadow_mode": {"owner": "search"}})
        api.put("routnig", b"who knows")
        api.put("prices", {"version": "1"})
        reviews = {one.profile: one for one in app_config.review()}
        assert set(reviews) == {"prompts", "routing", "guardrails", "routnig", "prices"}
        assert [(one.field, one.resembles) for one in reviews["routing"].unknown_fields] == [
            ("selected_chunk", "selected_chunks"),
            ("shadow_mode.owner", None),
        ]
        assert reviews["routing"].state == "in force"
        assert reviews["routnig"].state == "unknown to this platform, like routing?"
        assert reviews["prices"].state == "unknown to this platform"
        assert not any(one.problems for one in reviews.values())

    @pytest.mark.parametrize("broken", BROKEN, ids=str)
    def test_a_broken_document_is_named_with_the_version_that_serves(self, api, app_config, broken):
        api.put("routing", {**ROUTING, "version": "r2"})
        api.put("routing", b"an earlier accident")
        number = api.put("routing", broken)
        review = next(one for one in app_config.review() if one.profile == "routing")
        assert review.problems
        assert (review.deployed, review.serving, review.document_version) == (number, "2", "r2")
        assert review.to_dict()["description"].startswith(f"routing version {number}: ")
        assert review.to_dict()["description"].endswith("(refused: version 2 still serves)")

    def test_going_back_to_a_valid_version_is_all_it_takes(self, api, app_config):
        api.put("routing", b"broken")
        api.start_deployment(ConfigurationProfileId="id-routing", ConfigurationVersion="1")
        review = next(one for one in app_config.review() if one.profile == "routing")
        assert (review.deployed, review.serving, review.problems) == ("1", "1", ())

    def test_no_valid_version_at_all_is_said(self):
        api = AppConfigInMemory()
        api.put("routing", b"broken")
        (review,) = app_config_in_memory(api).review()
        assert review.serving is None
        assert "a chatbot that starts now has none" in review.to_dict()["description"]

    def test_an_experiment_that_does_not_fit_the_policy_in_force_is_named(self, api, app_config):
        arms = {"control": {"share": 0.5}, "deep": {"share": 0.5, "routing": {"version": "d", "selected_chunks": 9}}}
        api.put("experiments", {"version": "1", "experiments": {"depth": {"control": "control", "arms": arms}}})
        review = next(one for one in app_config.review() if one.profile == "experiments")
        assert "experiments.depth.arms.deep.routing: " in review.to_dict()["description"]
        assert "selected_chunks (9) must not exceed rerank_candidates (4)" in review.to_dict()["description"]
        sink = MemorySink()
        ask(app_config.configuration(), sink)
        assert sink.traces[0].tags["experiment_id"] == "none"

    def test_a_version_that_was_deleted_is_passed_over(self, api, app_config):
        api.put("routing", {**ROUTING, "version": "r2"})
        api.put("routing", b"broken")
        del api.versions["routing", 2]
        review = next(one for one in app_config.review() if one.profile == "routing")
        assert review.serving == "1"

    def test_a_profile_that_was_deleted_is_no_part_of_it(self, api, app_config):
        api.put("experiments", b"broken")
        del api.profiles["experiments"]
        assert {one.profile for one in app_config.review()} == {"prompts", "routing", "guardrails"}

    def test_a_profile_that_appconfig_does_not_host_is_read_as_it_is_served(self):
        api = AppConfigInMemory()
        api.put("routing", ROUTING, location="s3://configuration/routing.json")
        (review,) = app_config_in_memory(api).review()
        assert (review.state, review.document_version) == ("in force", "r1")

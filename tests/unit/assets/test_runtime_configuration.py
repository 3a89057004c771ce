"""The refresh of the configuration: what is unknown is shown, what is broken makes the run fail."""

from __future__ import annotations

import dagster as dg
import pytest

from mangaassist_assets.assets.release import runtime_configuration
from mangaassist_assets.checks.production import configuration_is_valid
from resources.store import StoreResource
from tests.support.app_config_api import AppConfigInMemory, app_config_in_memory


@dg.asset
def downstream_of_nothing() -> None:
    """Stands for what else a run does."""


@pytest.fixture
def api() -> AppConfigInMemory:
    made = AppConfigInMemory()
    for profile in ("prompts", "routing", "guardrails"):
        made.put(profile, {"version": "1"})
    return made


@pytest.fixture
def refresh(api, tmp_path):
    def run() -> dg.ExecuteInProcessResult:
        return dg.materialize(
            [runtime_configuration, configuration_is_valid, downstream_of_nothing],
            resources={
                "app_config": app_config_in_memory(api),
                "store": StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache")),
            },
            raise_on_error=False,
        )

    return run


def shown(result: dg.ExecuteInProcessResult, name: str) -> list[dict[str, object]] | str:
    (event,) = result.asset_materializations_for_node("runtime_configuration")
    value = event.metadata[name]
    return value.text if isinstance(value, dg.TextMetadataValue) else [dict(one.data) for one in value.records]


def check_of(result: dg.ExecuteInProcessResult) -> dg.AssetCheckEvaluation:
    (evaluation,) = result.get_asset_check_evaluations()
    return evaluation


def test_fields_that_are_unknown_are_shown_by_profile_and_version_and_the_run_is_green(api, refresh):
    number = api.put("routing", {"version": "2", "shadow_modes": True, "shadow_mode": {"owner": "search"}})
    api.put("prices", b"anything at all")
    result = refresh()
    assert result.success
    assert shown(result, "unknown_fields") == [
        {"profile": "routing", "version": number, "field": "shadow_mode.owner", "resembles": ""},
        {"profile": "routing", "version": number, "field": "shadow_modes", "resembles": "shadow_mode"},
    ]
    rows = shown(result, "profiles")
    assert {"prices", "routing"} <= {row["profile"] for row in rows}
    assert next(row for row in rows if row["profile"] == "prices")["state"] == "unknown to this platform"
    assert "routing version 2 shadow_modes (like shadow_mode?)" in str(check_of(result).description)


@pytest.mark.parametrize(
    ("profile", "document", "place"),
    [
        ("routing", b"{", "document: is not JSON"),
        ("routing", {"version": "2", "selected_chunks": "3"}, "selected_chunks: "),
        ("guardrails", {"version": "2", "minimum_best_relevance": 7}, "minimum_best_relevance: "),
        ("prompts", {"version": "2", "user": "{context}"}, "user: must hold {question} exactly once"),
    ],
)
def test_a_broken_document_fails_the_run_by_profile_version_place_reason_and_what_serves(
    api, refresh, profile, document, place
):
    api.put(profile, document)
    result = refresh()
    evaluation = check_of(result)
    assert not result.success
    assert not evaluation.passed
    assert evaluation.description.startswith(f"{profile} version 2: {place}")
    assert evaluation.description.endswith("(refused: version 1 still serves)")
    (problem,) = shown(result, "problems")
    assert (problem["profile"], problem["version"], problem["serving"]) == (profile, "2", "1")
    assert place.startswith(problem["field"] or "document")
    # What else the run does goes on.
    assert result.asset_materializations_for_node("downstream_of_nothing")


def test_experiments_that_break_are_refused_as_well(api, refresh):
    halves = {"a": {"share": 0.7}, "b": {"share": 0.7}}
    api.put("experiments", {"version": "1", "experiments": {"depth": {"control": "a", "arms": halves}}})
    result = refresh()
    assert not result.success
    assert "experiments.depth.arms: the shares add up to 1.4, not to 1" in check_of(result).description


def test_before_the_first_deployment_there_is_nothing_to_say(tmp_path):
    result = dg.materialize(
        [runtime_configuration, configuration_is_valid],
        resources={
            "app_config": app_config_in_memory(AppConfigInMemory()),
            "store": StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache")),
        },
    )
    assert shown(result, "profiles") == "none"


def test_a_broken_document_does_not_keep_the_state_of_production_from_being_recorded():
    from mangaassist_assets.definitions import build_definitions

    definitions = build_definitions("local")
    graph = definitions.resolve_asset_graph()
    assert dg.AssetKey("runtime_configuration") not in graph.get(dg.AssetKey("active_release")).parent_keys
    assert graph.get(dg.AssetCheckKey(dg.AssetKey("runtime_configuration"), "configuration_is_valid")).blocking


def test_the_job_of_the_sensor_fails_on_a_broken_document(api, tmp_path):
    from mangaassist_assets.definitions import build_definitions

    store = StoreResource(root=str(tmp_path / "store"), cache_folder=str(tmp_path / "cache"))
    definitions = build_definitions("local", app_config=app_config_in_memory(api), store=store)
    job = definitions.resolve_job_def("configuration_refresh")

    def run() -> dg.ExecuteInProcessResult:
        return job.execute_in_process(asset_selection=[dg.AssetKey("runtime_configuration")], raise_on_error=False)

    assert run().success
    api.put("routing", {"version": "2", "shadow_mode": "on"})
    refused = run()
    assert not refused.success
    assert check_of(refused).description.startswith("routing version 2: shadow_mode: ")

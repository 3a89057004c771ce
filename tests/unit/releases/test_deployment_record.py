"""Claims about what a deployment leaves in the registry, and about where the two sides disagree."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mangaassist_assets.models.registration.registry import ModelVersion
from mangaassist_assets.releases.deployment import (
    CONFIG_TAG,
    ENDPOINT_TAG,
    PRODUCTION,
    REPLACED,
    REPLACED_AT_TAG,
    REPLACED_BY_TAG,
    SINCE_TAG,
    STAGE_TAG,
    EndpointDeployment,
    ServedVersion,
    deployment_changes,
    disagreements,
    model_tags,
)

NAME, ENDPOINT = "mangaassist-intent-classifier", "mangaassist-intent"
MADE, BEGAN, LATER = "2026-03-01T08:00:00+00:00", "2026-03-02T08:00:00+00:00", "2026-03-03T08:00:00+00:00"


def version(number: str, **tags: str) -> ModelVersion:
    return ModelVersion(
        name=NAME,
        version=number,
        source="s3://models/m",
        run_id=f"run-{number}",
        artifact_sha256=number * 64,
        tags={"dataset_digest": f"dataset-{number}", **tags},
    )


def in_production(number: str, *, since: str = BEGAN, config: str = "") -> ModelVersion:
    told = {ENDPOINT_TAG: ENDPOINT, CONFIG_TAG: config or f"config-{number}", SINCE_TAG: since, STAGE_TAG: PRODUCTION}
    return version(number, **told)


def deployment(number: str, **options) -> EndpointDeployment:
    options = {"created": MADE, "changed": True, "since": LATER, "config_name": f"config-{number}", **options}
    return EndpointDeployment(endpoint_name=ENDPOINT, endpoint_arn="arn", **options)


def deploy(versions: list[ModelVersion], number: str, *, since: str = LATER, **options) -> list[ModelVersion]:
    """Carry out the changes of a deployment, and return the versions as they are then."""
    found = {one.version: one for one in versions}
    for change in deployment_changes(versions, version=number, deployment=deployment(number, since=since, **options)):
        one = found[change.version]
        kept = {key: value for key, value in one.tags.items() if key not in change.remove}
        found[change.version] = replace(one, tags={**kept, **change.set})
    return list(found.values())


def served(one: ModelVersion, **changes) -> ServedVersion:
    told = ServedVersion(
        endpoint_name=ENDPOINT,
        config_name=f"config-{one.version}",
        status="InService",
        loads_sha256=one.artifact_sha256,
        tags=model_tags(one),
    )
    return replace(told, **changes)


def disagree(said: ServedVersion | None, versions: list[ModelVersion]) -> list[str]:
    return disagreements(said, versions, model_name=NAME, endpoint_name=ENDPOINT)


def test_the_version_that_serves_says_where_by_which_configuration_and_since_when():
    (only,) = deploy([version("1")], "1", since=BEGAN)
    assert {name: value for name, value in only.tags.items() if name.startswith("endpoint_")} == {
        ENDPOINT_TAG: ENDPOINT,
        CONFIG_TAG: "config-1",
        SINCE_TAG: BEGAN,
        STAGE_TAG: PRODUCTION,
    }
    assert disagree(served(only), [only]) == []


def test_the_version_before_it_says_by_what_and_when_it_was_replaced():
    former, present = deploy([in_production("1"), version("2")], "2")
    assert (former.tags[STAGE_TAG], former.tags[REPLACED_BY_TAG], former.tags[REPLACED_AT_TAG]) == (
        REPLACED,
        "2",
        LATER,
    )
    assert former.tags[SINCE_TAG] == BEGAN
    assert disagree(served(present), [former, present]) == []


def test_a_version_that_comes_back_is_in_production_again_and_replaced_no_more():
    versions = deploy(deploy([in_production("1"), version("2")], "2", since=LATER), "1", since="2026-03-04T00:00:00Z")
    back, other = versions
    assert back.tags[STAGE_TAG] == PRODUCTION
    assert back.tags[SINCE_TAG] == "2026-03-04T00:00:00Z"
    assert not {REPLACED_AT_TAG, REPLACED_BY_TAG} & set(back.tags)
    assert other.tags[REPLACED_BY_TAG] == "1"
    assert disagree(served(back), versions) == []


def test_what_is_on_record_is_not_written_twice_and_keeps_its_time():
    versions = deploy([in_production("1"), version("2")], "2", since=BEGAN)
    assert deployment_changes(versions, version="2", deployment=deployment("2", changed=False)) == []


@pytest.mark.parametrize("written", range(5))
def test_a_record_that_was_cut_short_is_finished_by_the_next_run(written):
    versions = [in_production("1"), version("2")]
    changes = deployment_changes(versions, version="2", deployment=deployment("2"))
    steps = [(change.version, key, value) for change in changes for key, value in change.set.items()][:written]
    cut = [
        replace(one, tags={**one.tags, **{key: value for number, key, value in steps if number == one.version}})
        for one in versions
    ]
    finished = deploy(cut, "2", since=LATER, changed=False)
    assert disagree(served(finished[1]), finished) == []
    assert finished[0].tags[REPLACED_AT_TAG] == finished[1].tags[SINCE_TAG] == LATER


@pytest.mark.parametrize("on_record", ["", "yesterday", "2026-03-02T08:00:00", "2026-03-02T08:00:00+09:00"])
def test_a_time_that_is_none_in_utc_is_written_again(on_record):
    (only,) = deploy([in_production("1", since=on_record)], "1", changed=False)
    assert only.tags[SINCE_TAG] == LATER


def test_a_time_from_before_the_endpoint_was_made_is_another_endpoints():
    (only,) = deploy([in_production("1", since=BEGAN)], "1", changed=False, created="2026-03-03T07:00:00+00:00")
    assert only.tags[SINCE_TAG] == LATER


@pytest.mark.parametrize(
    "name", ["mlflow_run_id", "dataset_digest", "artifact_sha256", "mlflow_model_version", "mlflow_registered_model"]
)
@pytest.mark.parametrize("value", [None, "another"])
def test_each_tag_of_the_sagemaker_model_that_is_changed_or_gone_is_seen(name, value):
    one = in_production("1")
    tags = {key: text for key, text in model_tags(one).items() if key != name} | ({name: value} if value else {})
    assert disagree(served(one, tags=tags), [one])


@pytest.mark.parametrize("name", [ENDPOINT_TAG, CONFIG_TAG, STAGE_TAG, SINCE_TAG])
@pytest.mark.parametrize("value", [None, "another"])
def test_each_tag_of_the_version_that_is_changed_or_gone_is_seen(name, value):
    one = in_production("1")
    tags = {key: text for key, text in one.tags.items() if key != name} | ({name: value} if value else {})
    (found,) = disagree(served(one), [replace(one, tags=tags)])
    assert f"tag {name} of {NAME} version 1 is" in found


def test_a_container_that_loads_another_artifact_is_seen():
    one = in_production("1")
    (found,) = disagree(served(one, loads_sha256="f" * 64), [one])
    assert "loads the artifact 'ffff" in found


def test_a_second_version_that_claims_the_endpoint_is_seen():
    one, other = in_production("1"), in_production("2")
    (found,) = disagree(served(one), [one, other])
    assert found == f"{NAME} version 2 says that {ENDPOINT} serves it, which serves version 1"


def test_a_version_that_says_it_serves_where_there_is_no_endpoint_is_seen():
    (found,) = disagree(None, [in_production("1"), version("2")])
    assert "there is no such endpoint" in found
    assert disagree(None, [version("1")]) == []


def test_an_endpoint_that_was_set_back_by_hand_is_seen_from_both_versions():
    versions = deploy([in_production("1"), version("2")], "2")
    found = disagree(served(versions[0]), versions)
    assert any(f"tag {STAGE_TAG} of {NAME} version 1 is 'replaced'" in one for one in found)
    assert any("version 2 says that" in one for one in found)


def test_what_the_registry_does_not_know_is_no_tag():
    plain = ModelVersion(name=NAME, version="1", source="s3://m", run_id=None, artifact_sha256="a" * 64)
    assert set(model_tags(plain)) == {"mlflow_registered_model", "mlflow_model_version", "artifact_sha256"}

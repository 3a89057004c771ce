"""What deployments leave in SageMaker is collected, and nothing that an endpoint serves or is about to."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from mangaassist_assets.local.sagemaker.api import SageMakerApi
from mangaassist_assets.local.sagemaker.errors import ApiError
from mangaassist_assets.local.sagemaker.state import EndpointRecord, State
from resources.aws.endpoint_leftovers import delete_leftovers, leftovers

NOW = datetime(2026, 3, 24, tzinfo=UTC)
CONTAINER = {
    "Image": "image",
    "ModelDataSource": {
        "S3DataSource": {"S3Uri": "s3://bucket/m/", "S3DataType": "S3Prefix", "CompressionType": "None"}
    },
}


class Client:
    """The local SageMaker's API as boto3 calls it."""

    def __init__(self, state: State) -> None:
        self.state = state
        self._api = SageMakerApi(state, None)  # type: ignore[arg-type]  # endpoints are put into the state

    def __getattr__(self, name: str) -> Any:
        operation = "".join(word.capitalize() for word in name.split("_"))

        def call(**parameters: Any) -> dict[str, Any]:
            try:
                return _with_times(self._api.answer(operation, parameters))
            except ApiError as error:
                raise ClientError({"Error": {"Code": error.code, "Message": str(error)}}, operation) from error

        return call

    def deployed(self, name: str, *, days: float, model: bool = True) -> None:
        self.create_model(ModelName=name, PrimaryContainer=CONTAINER)
        variant = {"VariantName": "primary", "ModelName": name, "InstanceType": "ml", "InitialInstanceCount": 1}
        self.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        created = (NOW - timedelta(days=days)).timestamp()
        self.state.configs[name]["CreationTime"] = self.state.models[name]["CreationTime"] = created
        if not model:
            del self.state.configs[name]

    def serve(self, endpoint: str, config: str) -> None:
        self.state.endpoints[endpoint] = EndpointRecord(
            name=endpoint, arn="arn", config_name=config, created=0.0, modified=0.0, status="InService"
        )


def _with_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: datetime.fromtimestamp(one, UTC) if key == "CreationTime" else _with_times(one)
            for key, one in value.items()
        }
    return [_with_times(one) for one in value] if isinstance(value, list) else value


@pytest.fixture
def client(tmp_path) -> Client:
    return Client(State.load(tmp_path / "state.json"))


def name(version: int, endpoint: str = "intent") -> str:
    return f"{endpoint}-v{version}-0123abcd-{version:06x}"


def found(client, *, keep=1, protect=()) -> list[tuple[str, str]]:
    left = leftovers(client, ["intent"], keep=keep, grace=timedelta(hours=6), now=NOW, protect=protect)  # type: ignore[arg-type]
    return [(one.kind, one.name) for one in left]


def test_old_configurations_go_with_their_models_and_the_served_and_the_newest_stay(client):
    for version in range(1, 6):
        client.deployed(name(version), days=10 - version)
    client.serve("intent", name(2))
    expected = [("configuration", name(4)), ("configuration", name(3)), ("configuration", name(1))]
    assert found(client) == [*expected, *(("model", name(version)) for version in (1, 3, 4))]
    assert ("configuration", name(1)) not in found(client, protect=[name(1)])


def test_what_any_endpoint_serves_or_young_or_named_otherwise_stays(client):
    client.deployed(name(1), days=9)
    client.deployed(name(2), days=0.1)
    client.deployed("intent-by-hand", days=9)
    client.deployed(name(1, "intent-two"), days=9)
    client.serve("somebody-elses", name(1))
    assert found(client, keep=0) == []


def test_more_than_a_page_is_found(client):
    for version in range(1, 121):
        client.deployed(name(version), days=200 - version)
    assert len(found(client, keep=0)) == 240


def test_a_model_whose_configuration_a_killed_collection_deleted_goes(client):
    client.deployed(name(1), days=9, model=False)
    assert found(client) == [("model", name(1))]


def test_what_was_left_is_deleted_and_what_is_gone_already_is_fine(client):
    for version in (1, 2, 3):
        client.deployed(name(version), days=10 - version)
    left = leftovers(client, ["intent"], keep=1, grace=timedelta(0), now=NOW)  # type: ignore[arg-type]
    delete_leftovers(client, left[:1])  # type: ignore[arg-type]
    delete_leftovers(client, left)  # type: ignore[arg-type]
    assert (set(client.state.configs), set(client.state.models)) == ({name(3)}, {name(3)})
    assert found(client) == []

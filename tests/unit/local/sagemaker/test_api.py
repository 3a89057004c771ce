from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mangaassist_assets.local.home import HomeError
from mangaassist_assets.local.sagemaker.api import SageMakerApi
from mangaassist_assets.local.sagemaker.errors import ApiError
from mangaassist_assets.local.sagemaker.state import Deployment, EndpointRecord, State
from tests.support.examples import examples


class RecordedEndpoints:
    """Takes the place of the processes: endpoints stay in the status that a call gives them until a test moves them."""

    def __init__(self, state: State) -> None:
        self.state = state

    def create(self, record: EndpointRecord, deployment: Deployment) -> None:
        record.pending = deployment
        self.state.endpoints[record.name] = record
        self.state.save()

    def update(self, record: EndpointRecord, deployment: Deployment) -> None:
        record.status, record.pending, record.pending_since = "Updating", deployment, 5.0

    def delete(self, record: EndpointRecord) -> None:
        record.status = "Deleting"

    def serving(self, _record: EndpointRecord, _variant: str) -> bool:
        return True

    def settle(self, name: str) -> None:
        record = self.state.endpoints[name]
        record.status, record.deployed, record.pending = "InService", record.pending, None


Call = Callable[..., dict[str, Any]]


@pytest.fixture
def state(tmp_path: Path) -> State:
    return State.load(tmp_path / "state.json")


@pytest.fixture
def endpoints(state: State) -> RecordedEndpoints:
    return RecordedEndpoints(state)


@pytest.fixture
def call(state: State, endpoints: RecordedEndpoints) -> Call:
    api = SageMakerApi(state, endpoints)  # type: ignore[arg-type]
    return lambda operation, **parameters: api.answer(operation, parameters)


def container(folder: Path, **changes: Any) -> dict[str, Any]:
    source = {"S3Uri": folder.as_uri(), "S3DataType": "S3Prefix", "CompressionType": "None"}
    return {"Image": "image", "ModelDataSource": {"S3DataSource": source}, **changes}


def variant(**changes: Any) -> dict[str, Any]:
    return {
        "VariantName": "primary",
        "ModelName": "m",
        "InstanceType": "ml.m5.large",
        "InitialInstanceCount": 1,
        **changes,
    }


@pytest.fixture
def deployed(call: Call, endpoints: RecordedEndpoints, tmp_path: Path) -> Call:
    call("CreateModel", ModelName="m", PrimaryContainer=container(tmp_path, Environment={"OMP_NUM_THREADS": "1"}))
    call("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()])
    call("CreateEndpoint", EndpointName="e", EndpointConfigName="c")
    endpoints.settle("e")
    return call


@pytest.mark.parametrize("name", ["../x", "a/b", "", "-a", "a" * 64, "a b", "a\n", "ä", "a\0"])
@pytest.mark.parametrize(
    ("operation", "key"),
    [("CreateModel", "ModelName"), ("CreateEndpointConfig", "EndpointConfigName"), ("CreateEndpoint", "EndpointName")],
)
def test_names_that_aws_would_refuse_are_refused(call: Call, operation: str, key: str, name: str) -> None:
    with pytest.raises(ApiError) as caught:
        call(operation, **{key: name})
    assert caught.value.code == "ValidationException"
    assert "failed to satisfy constraint" in caught.value.message


@pytest.mark.parametrize(
    ("operation", "key", "what"),
    [
        ("DescribeModel", "ModelName", 'model "arn:aws:sagemaker:us-east-1:000000000000:model/nope"'),
        ("DeleteEndpointConfig", "EndpointConfigName", "endpoint configuration"),
        ("DescribeEndpoint", "EndpointName", 'endpoint "arn:aws:sagemaker:us-east-1:000000000000:endpoint/nope"'),
        ("UpdateEndpoint", "EndpointName", "endpoint"),
    ],
)
def test_what_does_not_exist_could_not_be_found(call: Call, operation: str, key: str, what: str) -> None:
    with pytest.raises(ApiError, match=f"ValidationException: Could not find {what}"):
        call(operation, **{key: "nope"})


def test_a_name_can_be_taken_only_once(deployed: Call, tmp_path: Path) -> None:
    with pytest.raises(ApiError, match="Cannot create already existing model"):
        deployed("CreateModel", ModelName="m", PrimaryContainer=container(tmp_path))
    with pytest.raises(ApiError, match="Cannot create already existing endpoint configuration"):
        deployed("CreateEndpointConfig", EndpointConfigName="c", ProductionVariants=[variant()])
    with pytest.raises(ApiError, match='Cannot create already existing endpoint "'):
        deployed("CreateEndpoint", EndpointName="e", EndpointConfigName="c")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("file:///does/not/exist", "Could not find model data"),
        ("file:///tmp/../etc", r"free of `\.\.`"),
        ("file://elsewhere/etc", "the machine elsewhere"),
        ("file:///tmp?x=1", "plain URI"),
        ("https://example.com/model", "s3:// or file:// only"),
        ("s3://bucket", "no bucket and prefix"),
    ],
)
def test_model_data_that_cannot_be_served_is_refused(call: Call, tmp_path: Path, uri: str, message: str) -> None:
    bad = container(tmp_path)
    bad["ModelDataSource"]["S3DataSource"]["S3Uri"] = uri
    with pytest.raises(ApiError, match=message):
        call("CreateModel", ModelName="m", PrimaryContainer=bad)


@pytest.mark.parametrize(
    "environment",
    [{"A B": "x"}, {"A": "x" * 1025}, {"A": 1}, {"": "x"}, {"A": "\0"}, {f"V{n}": "" for n in range(101)}],
)
def test_a_container_environment_that_aws_would_refuse_is_refused(
    call: Call, tmp_path: Path, environment: dict[str, Any]
) -> None:
    with pytest.raises(ApiError, match="Environment"):
        call("CreateModel", ModelName="m", PrimaryContainer=container(tmp_path, Environment=environment))


@pytest.mark.parametrize(
    "variants",
    [
        [],
        ["primary"],
        [variant(ModelName="nope")],
        [variant(InstanceType=None)],
        [variant(InitialVariantWeight=-1)],
        [variant(InitialInstanceCount="2")],
        [variant(ContainerStartupHealthCheckTimeoutInSeconds=2)],
        [variant(), variant()],
    ],
)
def test_variants_that_cannot_be_deployed_are_refused(deployed: Call, variants: list[Any]) -> None:
    with pytest.raises(ApiError, match="ValidationException"):
        deployed("CreateEndpointConfig", EndpointConfigName="other", ProductionVariants=variants)


def test_what_only_aws_has_is_refused_by_name(deployed: Call) -> None:
    with pytest.raises(ApiError, match="CreateTrainingJob is not supported by the local SageMaker"):
        deployed("CreateTrainingJob")
    with pytest.raises(ApiError, match="AsyncInferenceConfig is not supported"):
        deployed(
            "CreateEndpointConfig",
            EndpointConfigName="x",
            ProductionVariants=[variant()],
            AsyncInferenceConfig={"OutputConfig": {}},
        )


def test_an_endpoint_in_progress_cannot_be_changed(deployed: Call) -> None:
    deployed("UpdateEndpoint", EndpointName="e", EndpointConfigName="c")
    for operation in ("UpdateEndpoint", "DeleteEndpoint"):
        with pytest.raises(ApiError, match="Cannot update in-progress endpoint"):
            deployed(operation, EndpointName="e", EndpointConfigName="c")


def test_a_failed_endpoint_can_only_be_deleted(deployed: Call, state: State) -> None:
    state.endpoints["e"].status = "Failed"
    with pytest.raises(ApiError, match="DeleteEndpoint is the only operation"):
        deployed("UpdateEndpoint", EndpointName="e", EndpointConfigName="c")
    deployed("DeleteEndpoint", EndpointName="e")


def test_an_update_is_described_with_what_serves_and_what_is_pending(deployed: Call) -> None:
    deployed("CreateEndpointConfig", EndpointConfigName="c2", ProductionVariants=[variant(InitialVariantWeight=2)])
    deployed("UpdateEndpoint", EndpointName="e", EndpointConfigName="c2", DeploymentConfig={"RollingUpdatePolicy": {}})
    described = deployed("DescribeEndpoint", EndpointName="e")
    assert described["EndpointStatus"] == "Updating"
    assert described["EndpointConfigName"] == "c"
    assert described["ProductionVariants"][0]["CurrentWeight"] == 1.0
    assert described["PendingDeploymentSummary"]["EndpointConfigName"] == "c2"
    assert described["LastDeploymentConfig"] == {"RollingUpdatePolicy": {}}


def test_a_model_in_use_may_be_deleted_and_the_endpoint_keeps_its_copy(deployed: Call, state: State) -> None:
    deployed("DeleteModel", ModelName="m")
    deployed("DeleteEndpointConfig", EndpointConfigName="c")
    plan = State.load(state.path).endpoints["e"].deployed or state.endpoints["e"].deployed
    assert plan is not None
    assert plan.variants[0].environment == {"OMP_NUM_THREADS": "1"}


def test_lists_are_filtered_sorted_and_paged(deployed: Call, tmp_path: Path) -> None:
    for number in range(12):
        deployed("CreateModel", ModelName=f"many-{number:02}", PrimaryContainer=container(tmp_path))
    first = deployed("ListModels", NameContains="MANY", SortBy="Name", SortOrder="Ascending")
    assert [model["ModelName"] for model in first["Models"]] == [f"many-{number:02}" for number in range(10)]
    rest = deployed(
        "ListModels", NameContains="many", SortBy="Name", SortOrder="Ascending", NextToken=first["NextToken"]
    )
    assert [model["ModelName"] for model in rest["Models"]] == ["many-10", "many-11"]
    assert "NextToken" not in rest
    assert deployed("ListEndpoints", StatusEquals="Failed") == {"Endpoints": []}
    assert len(deployed("ListEndpoints", StatusEquals="InService")["Endpoints"]) == 1
    with pytest.raises(ApiError, match="NextToken"):
        deployed("ListModels", NextToken="-1")


def test_tags_are_added_listed_and_removed_and_go_with_their_resource(deployed: Call, tmp_path: Path) -> None:
    arn = deployed(
        "CreateModel", ModelName="t", PrimaryContainer=container(tmp_path), Tags=[{"Key": "a", "Value": "1"}]
    )["ModelArn"]
    deployed("AddTags", ResourceArn=arn, Tags=[{"Key": "b", "Value": "2"}, {"Key": "a", "Value": "3"}])
    assert deployed("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "a", "Value": "3"}, {"Key": "b", "Value": "2"}]
    deployed("DeleteTags", ResourceArn=arn, TagKeys=["a"])
    assert deployed("ListTags", ResourceArn=arn)["Tags"] == [{"Key": "b", "Value": "2"}]
    deployed("DeleteModel", ModelName="t")
    with pytest.raises(ApiError, match="Could not find resource"):
        deployed("ListTags", ResourceArn=arn)


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"Key": "a", "Value": "b"}, "must be a list"),
        ([{"Key": "a"}], "'tags.member.value' must be a text"),
        ([{"Key": 1, "Value": "b"}], "'tags.member.key' must be a text"),
        ([{"Key": "", "Value": "b"}], "length from 1 to 128"),
        ([{"Key": "a" * 129, "Value": "b"}], "length from 1 to 128"),
        ([{"Key": "a", "Value": "b" * 257}], "length from 0 to 256"),
        ([{"Key": "a#", "Value": "b"}], "regular expression pattern"),
        ([{"Key": "a", "Value": "b\n"}], "regular expression pattern"),
        ([{"Key": "aws:a", "Value": "b"}], "reserved"),
        ([{"Key": "a", "Value": "b"}, {"Key": "a", "Value": "c"}], "Duplicate tag key"),
        ([{"Key": f"a{number}", "Value": ""} for number in range(51)], "at most 50 tags"),
    ],
)
def test_tags_that_aws_would_refuse_are_refused_and_nothing_is_made(
    deployed: Call, tmp_path: Path, tags: Any, message: str
) -> None:
    with pytest.raises(ApiError, match=message):
        deployed("CreateModel", ModelName="t", PrimaryContainer=container(tmp_path), Tags=tags)
    with pytest.raises(ApiError, match="Could not find model"):
        deployed("DescribeModel", ModelName="t")
    arn = deployed("DescribeModel", ModelName="m")["ModelArn"]
    with pytest.raises(ApiError, match=message):
        deployed("AddTags", ResourceArn=arn, Tags=tags)
    assert deployed("ListTags", ResourceArn=arn)["Tags"] == []


def test_the_state_reads_back_as_it_was_written(deployed: Call, state: State) -> None:
    deployed("UpdateEndpoint", EndpointName="e", EndpointConfigName="c")
    state.save()
    assert State.load(state.path) == state


@pytest.mark.parametrize("content", ["{", "[]", '{"schema": 1}', '{"schema": 99}'])
def test_a_damaged_state_is_refused_with_its_path(tmp_path: Path, content: str) -> None:
    (tmp_path / "state.json").write_text(content)
    with pytest.raises(HomeError, match=r"state\.json"):
        State.load(tmp_path / "state.json")


JSON = st.recursive(
    st.sampled_from(["m", "c", "e", "arn:aws:sagemaker:us-east-1:000000000000:model/m"])
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("ModelName", "PrimaryContainer", "Containers", "EndpointConfigName", "ProductionVariants", "EndpointName"),
        *("DeploymentConfig", "Tags", "TagKeys", "ResourceArn", "MaxResults", "NextToken", "NameContains", "SortBy"),
        *("SortOrder", "StatusEquals", "Image", "Environment", "ModelDataSource", "S3DataSource", "VariantName"),
    ]
)
OPERATIONS = [
    f"{verb}{noun}"
    for noun in ("Model", "EndpointConfig", "Endpoint")
    for verb in ("Create", "Describe", "Delete", "Update")
] + ["ListModels", "ListEndpointConfigs", "ListEndpoints", "AddTags", "ListTags", "DeleteTags"]


@pytest.mark.parametrize(
    ("operation", "parameters"),
    [
        ("DeleteTags", {"TagKeys": [{}]}),
        ("ListEndpoints", {"StatusEquals": [[]]}),
        ("UpdateEndpoint", {"EndpointName": "e", "EndpointConfigName": "c", "DeploymentConfig": ["x"]}),
        ("ListModels", {"MaxResults": True}),
        ("CreateModel", {"ModelName": "n", "PrimaryContainer": {"Image": "i", "Environment": ["A"]}}),
    ],
)
def test_values_of_the_wrong_type_are_answered_or_refused(
    deployed: Call, operation: str, parameters: dict[str, Any]
) -> None:
    arn = deployed("DescribeModel", ModelName="m")["ModelArn"]
    with suppress(ApiError):
        deployed(operation, ResourceArn=arn, **parameters)


@settings(
    max_examples=examples(300),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    operation=st.sampled_from(OPERATIONS),
    parameters=st.dictionaries(KEYS, JSON | st.dictionaries(KEYS, JSON, max_size=4), max_size=6),
)
def test_any_json_is_answered_or_refused_and_never_an_internal_error(
    deployed: Call, operation: str, parameters: dict[str, Any]
) -> None:
    with suppress(ApiError):
        deployed(operation, **parameters)

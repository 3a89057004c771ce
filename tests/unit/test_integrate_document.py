"""docs/integrate.md and its example: what it shows is what runs, and the parts of it do what it says."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from mangaassist_assets.tracing.reading.mapping import read_mapping
from tests.support.tiny_store import EMAIL, ORDER, PHONE

DOCS = Path(__file__).parents[2] / "docs"
DOCUMENT = (DOCS / "integrate.md").read_text(encoding="utf-8")
EXAMPLES = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "examples").glob("*.py")}
ORCHESTRATOR = EXAMPLES["orchestrator.py"]


def parts(*names: str, **around: Any) -> dict[str, Any]:
    """Return some definitions of the example, made in a namespace of their own: importing it would connect it."""
    wanted = [
        node
        for node in ast.parse(ORCHESTRATOR).body
        if (isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in names)
        or (isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names)
    ]
    assert len(wanted) == len(names)
    namespace: dict[str, Any] = {"re": re, "json": json, "Any": Any, **around}
    annotations = ast.parse("from __future__ import annotations").body
    exec(compile(ast.Module([*annotations, *wanted], []), "orchestrator.py", "exec"), namespace)  # noqa: S102
    return namespace


def test_every_block_of_code_stands_in_the_example():
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(blocks) > 4
    assert [block for block in blocks if block not in ORCHESTRATOR] == []


def test_the_example_needs_boto3_and_mlflow_and_nothing_of_this_project():
    imported = {
        name.partition(".")[0]
        for content in EXAMPLES.values()
        for node in ast.walk(ast.parse(content))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([node.module or ""] if isinstance(node, ast.ImportFrom) else [one.name for one in node.names])
    }
    assert imported - sys.stdlib_module_names == {"boto3", "botocore", "mlflow", "passages"}


def test_its_links_lead_somewhere_and_its_variables_are_those_of_the_example():
    links = [one for one in re.findall(r"\]\(([^)#]+)\)", DOCUMENT) if "://" not in one]
    assert [one for one in links if not (DOCS / one).exists()] == []
    needed = set(re.findall(r'os\.environ\["(\w+)"\]', ORCHESTRATOR)) - {"PSEUDONYM_KEY"}
    assert [one for one in needed if f"{one}=" not in DOCUMENT] == []


def test_its_mapping_can_be_used(tmp_path):
    (lines,) = re.findall(r"((?:    .*\n|\n)+)", DOCUMENT[DOCUMENT.index("    # chatbot.toml") :])[:1]
    file = tmp_path / "chatbot.toml"
    file.write_text(textwrap.dedent(lines), encoding="utf-8")
    mapping = read_mapping(file)
    assert mapping.stages_of("classify_topic", None) == ("intent_classification",)
    assert str(mapping.places["turn"]["session_id"][0]) == "tags/conversation"


@pytest.mark.parametrize(
    "personal",
    [EMAIL, ORDER, PHONE, "D01-1234567-1234567", "123-1234567-1234567", "+81 90 1234 5678", "4111 1111 1111 1111"],
)
def test_what_is_certainly_personal_is_replaced_wherever_it_stands(personal):
    scrubbed = parts("PERSONAL", "redact", "scrubbed")["scrubbed"]
    said = scrubbed({"message": f"mine is {personal}, please", "more": [{"deep": personal}], "count": 3})
    assert personal not in json.dumps(said)
    assert said["count"] == 3
    assert said["message"].startswith("mine is [")


@pytest.mark.parametrize(
    "plain",
    ["volume 12 of 27, 2026-03-24", "anthropic.claude-3-5-sonnet-20240620-v1:0", "kb-32c05088f333e221", "9.99 EUR"],
)
def test_what_a_shop_talks_about_stays(plain):
    assert parts("PERSONAL", "redact")["redact"](plain) == plain


def test_a_shopper_finds_what_is_their_tenants_or_nobodys(tmp_path):
    spec = importlib.util.spec_from_file_location("passages", DOCS / "examples" / "passages.py")
    assert spec is not None
    assert spec.loader is not None
    passages = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(passages)
    owners = {"a::0": "a", "b::0": "b", "free::0": None}
    lines = [
        {"chunk_id": name, "title": "Returns", "text": "Send it back.", "vector": [1.0, 0.0], "tenant": owner}
        for name, owner in owners.items()
    ]
    file = tmp_path / "kb-1.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    index = passages.Index(file)
    for tenant, expected in {
        "a": {"a::0", "free::0"},
        "b": {"b::0", "free::0"},
        "c": {"free::0"},
        None: {"free::0"},
    }.items():
        near, worded = index.near([1.0, 0.0], 9, tenant=tenant), index.worded("back", 9, tenant=tenant)
        assert {one["chunk_id"] for one in near} == {one["chunk_id"] for one in worded} == expected
        assert {one["chunk_id"] for one in passages.fused(near, worded)} == expected
    assert index.generation == "kb-1"


class AppConfig:
    """The data plane: a token is good for one call, an unchanged document has an empty body."""

    def __init__(self) -> None:
        self.body = b'{"version": "1"}'
        self.fails = False
        self.sessions = 0
        self.spent: set[str] = set()

    def start_configuration_session(self, **asked: str) -> dict[str, str]:
        assert asked["ConfigurationProfileIdentifier"] == "prompts"
        self.sessions += 1
        return {"InitialConfigurationToken": f"first-{self.sessions}"}

    def get_latest_configuration(self, *, ConfigurationToken: str) -> dict[str, Any]:  # noqa: N803
        assert ConfigurationToken not in self.spent, "a token is good for one call"
        self.spent.add(ConfigurationToken)
        if self.fails:
            raise ClientError({"Error": {"Code": "InternalServerException"}}, "GetLatestConfiguration")
        body, self.body = self.body, b""
        return {
            "NextPollConfigurationToken": f"next-{len(self.spent)}",
            "NextPollIntervalInSeconds": 60,
            "Configuration": io.BytesIO(body),
        }


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


class TestConfiguration:
    @pytest.fixture
    def service(self) -> AppConfig:
        return AppConfig()

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def profile(self, service, clock) -> Any:
        around = {"appconfig": service, "time": clock, "BotoCoreError": BotoCoreError, "ClientError": ClientError}
        return parts("Profile", APPLICATION="app", ENVIRONMENT="env", **around)["Profile"]("prompts")

    def test_a_document_is_asked_for_when_the_service_said(self, profile, service, clock):
        for _ in range(3):
            assert profile.current() == {"version": "1"}
        assert len(service.spent) == 1
        clock.now += 61
        service.body = b'{"version": "2", "unknown": true}'
        assert profile.current() == {"version": "2", "unknown": True}

    def test_an_empty_body_means_unchanged_and_every_token_is_used_once(self, profile, service, clock):
        for _ in range(4):
            assert profile.current() == {"version": "1"}
            clock.now += 61
        assert (len(service.spent), service.sessions) == (4, 1)

    @pytest.mark.parametrize("body", [b"", b"{broken", b"[]", b'{"text": "without a version"}'])
    def test_a_poll_that_fails_keeps_the_document_and_begins_a_new_session(self, profile, service, clock, body):
        profile.current()
        service.fails, service.body = not body, body
        clock.now += 61
        assert profile.current() == {"version": "1"}
        service.fails, service.body = False, b'{"version": "3"}'
        clock.now += 61
        assert profile.current() == {"version": "3"}
        assert service.sessions == (2 if not body else 1)

    def test_without_any_document_there_is_no_turn(self, profile, service):
        service.fails = True
        with pytest.raises(ClientError):
            profile.current()

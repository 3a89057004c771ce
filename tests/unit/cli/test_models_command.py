"""`mangaassist models`: what it lists, and an override from the command line through a Dagster run."""

import json
from contextlib import contextmanager
from types import SimpleNamespace

import dagster as dg
import pytest
from click.testing import CliRunner
from upath import UPath

from mangaassist_assets.assets.common import as_failure
from mangaassist_assets.assets.promotion import ChampionConfig, champion_result, requested_override
from mangaassist_assets.cli.commands.models import (
    list_models,
    models,
    pipeline_of,
    render_list,
    render_override,
    run_override,
)
from mangaassist_assets.cli.session import CommandError, Session
from mangaassist_assets.core.errors import OperatorError
from mangaassist_assets.core.snapshots import SnapshotStore
from mangaassist_assets.models.pipelines import INTENT, RERANKER
from mangaassist_assets.privacy import Vocabulary
from mangaassist_assets.releases.champion import promote
from mangaassist_assets.releases.overrides import OverrideRefusedError
from tests.support.registry import MemoryMlflow

WHY = "it answers gift cards, which matter most now"


class Endpoints:
    """Serves what the endpoint asset deployed last; fails when asked to."""

    def __init__(self) -> None:
        self.version: str | None = None
        self.broken = False

    def describe(self, name):
        return None if self.version is None else SimpleNamespace(model_version=self.version, name=name)


def definitions_of(mlflow, store, endpoints):
    @dg.asset(name=INTENT.champion_asset)
    def champion(context: dg.AssetExecutionContext, config: ChampionConfig) -> dg.MaterializeResult:
        with as_failure(OverrideRefusedError):
            promoted = promote(mlflow, store.snapshots(), INTENT, override=requested_override(config, Vocabulary(())))
        context.log.info(promoted.reason)
        snapshot = store.snapshots().write(INTENT.champion_asset, promoted.named.files())
        return champion_result(mlflow, INTENT, promoted, snapshot)

    @dg.asset(name=INTENT.endpoint_asset, deps=[champion])
    def endpoint() -> None:
        if endpoints.broken:
            raise RuntimeError("the endpoint is updating")
        endpoints.version = mlflow.version_by_alias(INTENT.model_name, "champion").version

    job = dg.define_asset_job("intent_promotion", selection=[champion, endpoint])
    return dg.Definitions(assets=[champion, endpoint], jobs=[job], executor=dg.in_process_executor)


@pytest.fixture
def session(tmp_path):
    mlflow = MemoryMlflow(tmp_path / "artifacts")
    mlflow.add(INTENT.model_name, alias="champion", release_bundle="bootstrap", dataset_digest="d" * 64)
    mlflow.add(
        INTENT.model_name,
        alias="challenger",
        release_bundle="2026.01.12-rc1",
        evaluation_verdict="fail",
        evaluated_against="1",
        evaluation_accuracy="0.8123",
        evaluation_examples="400",
        champion_health="holding",
    )
    mlflow.add(RERANKER.model_name, kind="reranker", alias="champion", evaluation_ndcg_at_10="0.7000")
    snapshots = SnapshotStore(UPath(tmp_path / "store"))
    store = SimpleNamespace(snapshots=lambda: snapshots)
    endpoints = Endpoints()
    with dg.DagsterInstance.ephemeral() as instance:
        yield Session(
            instance=instance,
            definitions=definitions_of(mlflow, store, endpoints),
            resources=SimpleNamespace(mlflow=mlflow, store=store, endpoints=endpoints),
            progress=lambda _line: None,
            logs=tmp_path,
        )


def override(session, **options):
    return run_override(session, **{"model": "intent", "version": "2", "reason": WHY, "by": "operator", **options})


def test_an_override_becomes_champion_serves_and_is_listed(session, capsys):
    report = override(session, by="release manager")
    assert (report["champion_version"], report["deployed_version"], report["replaced"]) == ("2", "2", "1")
    (kept,) = list_models(session)["overrides"]
    assert (kept["by"], kept["reason"]) == ("release manager", WHY)
    render_override(report)
    assert "version 2 of the intent model is champion in place of 1" in capsys.readouterr().out


def test_its_run_can_be_found_with_the_reason_in_the_metadata(session):
    run_id = override(session)["run_id"]
    event = session.instance.get_latest_materialization_event(dg.AssetKey(INTENT.champion_asset))
    assert event.run_id == run_id
    assert event.asset_materialization.metadata["override_reason"].value == WHY


def test_no_personal_data_reaches_the_configuration_of_the_run(session):
    run_id = override(session, reason=f"{WHY}, says nobody.invented@example.invalid")["run_id"]
    config = json.dumps(session.instance.get_run_by_id(run_id).run_config)
    assert "[EMAIL]" in config
    assert "nobody.invented" not in config


def test_a_deployment_that_failed_is_caught_up_by_the_same_command(session):
    session.resources.endpoints.broken = True
    with pytest.raises(CommandError, match=r"is champion, but not all of it is done.*endpoint is updating"):
        override(session)
    session.resources.endpoints.broken = False
    assert override(session)["deployed_version"] == "2"
    assert len(list_models(session)["overrides"]) == 1


def test_the_champion_itself_is_refused_with_its_reason(session):
    override(session)
    with pytest.raises(CommandError, match=r"champion already|acts once"):
        override(session, reason="a second reason for the same version")
    assert len(list_models(session)["overrides"]) == 1


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"version": "9"}, "has no version 9"),
        ({"reason": "because"}, "10 to 500 characters"),
        ({"by": " "}, "by somebody"),
        ({"model": "sentiment"}, "there is no model 'sentiment'"),
    ],
)
def test_what_cannot_be_overridden_is_said_in_one_line(session, options, says):
    with pytest.raises(OperatorError, match=says):
        override(session, **options)
    assert session.resources.mlflow.version_by_alias(INTENT.model_name, "champion").version == "1"


def test_the_list_says_of_every_version_what_the_registry_knows(session, capsys):
    first, second, reranker = list_models(session)["versions"]
    assert (first["version"], first["aliases"], first["release_bundle"]) == ("1", ["champion"], "bootstrap")
    assert (second["aliases"], second["verdict"], second["judged_against"]) == (["challenger"], "fail", "1")
    assert (second["metrics"], second["judged_on"], second["health"]) == ({"accuracy": "0.8123"}, "400", "holding")
    assert (reranker["model"], reranker["metrics"]) == ("reranker", {"ndcg@10": "0.7000"})
    render_list(list_models(session))
    assert "Model versions" in capsys.readouterr().out
    assert {one["model"] for one in list_models(session, model="reranker")["versions"]} == {"reranker"}
    assert pipeline_of("intent") is INTENT


def test_markup_in_a_reason_is_shown_and_not_obeyed(session, capsys):
    override(session, reason="[bold]version 2[/bold] is right [link=http://x.invalid]now[/link]")
    render_list(list_models(session))
    assert "[bold]" in capsys.readouterr().out.replace("\n", "")


def test_the_commands_read_their_options(session, monkeypatch):
    @contextmanager
    def opened(_home, _say, **_services):
        yield session

    monkeypatch.setattr("mangaassist_assets.cli.commands.models.open_session", opened)
    runner = CliRunner()
    promoted = runner.invoke(
        models, ["promote", "--model", "intent", "--version", "2", "--reason", WHY, "--json"], obj="home"
    )
    assert promoted.exit_code == 0, promoted.output
    assert json.loads(promoted.stdout)["by"] == "operator"
    listed = runner.invoke(models, ["list", "--model", "intent", "--json"], obj="home")
    assert json.loads(listed.stdout)["versions"][1]["overridden_by"] == "operator"
    refused = runner.invoke(
        models, ["promote", "--model", "intent", "--version", "1", "--reason", "no", "--json"], obj="home"
    )
    assert refused.exit_code == 1
    assert runner.invoke(models, ["promote", "--model", "intent", "--version", "2"], obj="home").exit_code == 2

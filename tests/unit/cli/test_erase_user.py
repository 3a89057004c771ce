"""Which of Dagster's runs still show something that an erased user said."""

from __future__ import annotations

from types import SimpleNamespace

import dagster as dg

from mangaassist_assets.cli.commands.personal_data import _runs_that_show
from mangaassist_assets.tracing.person_marks import PersonMarks
from mangaassist_assets.tracing.purging import HoldingSnapshot

SAID = 'my parcel "with the seven volumes" never came'
MARKS = PersonMarks("u-" + "0" * 20, frozenset(["tr-1"]), frozenset([SAID]))


def made_by(instance: dg.DagsterInstance, shown: str) -> str:
    @dg.asset(partitions_def=dg.StaticPartitionsDefinition(["b1", "b2"]))
    def failure_clusters() -> dg.MaterializeResult[None]:
        rows = [dg.TableRecord({"cluster": "c", "at_the_centre": f"hello / {shown}"})]
        return dg.MaterializeResult(metadata={"examples": dg.MetadataValue.table(rows)})

    return dg.materialize([failure_clusters], instance=instance, partition_key="b1").run_id


def test_runs_whose_pages_quote_the_person_are_named_and_no_others():
    with dg.DagsterInstance.ephemeral() as instance:
        named, by_id = made_by(instance, SAID), made_by(instance, "trace tr-1")
        made_by(instance, "where is my order")
        held = [
            HoldingSnapshot(name="failure_clusters", partition=one, digest="d", files=("f",), latest=True)
            for one in ("b1", "b2")
        ]
        session = SimpleNamespace(instance=instance)
        assert _runs_that_show(session, MARKS, held) == sorted([named, by_id])  # type: ignore[arg-type]
        assert _runs_that_show(session, MARKS, held[1:]) == []  # type: ignore[arg-type]

"""Figures as Dagster's metadata."""

from __future__ import annotations

import os

import dagster as dg
import pytest

from mangaassist_assets.assets.common import carried_out_by, materialized, metadata
from mangaassist_assets.core.snapshots import Origin, Snapshot


def test_plain_figures_become_metadata_of_their_kind():
    link = dg.MetadataValue.url("https://mlflow.invalid")
    made = metadata(
        {"count": 3, "share": 0.5, "built": True, "name": "x", "rows": [{"a": 1, "b": None}], "empty": [], "link": link}
    )
    assert made == {
        "count": dg.MetadataValue.int(3),
        "share": dg.MetadataValue.float(0.5),
        "built": dg.MetadataValue.bool(True),
        "name": dg.MetadataValue.text("x"),
        "rows": dg.MetadataValue.table([dg.TableRecord({"a": 1, "b": None})]),
        "empty": dg.MetadataValue.text("none"),
        "link": link,
    }
    assert isinstance(made["built"], dg.BoolMetadataValue)


def test_equal_content_is_equal_data():
    snapshot = Snapshot("asset", None, "d" * 64, "memory://asset", {}, origin=Origin(inputs={"turns/rc1": "a" * 64}))
    result = materialized(snapshot, {"count": 1})
    assert result.data_version == dg.DataVersion("d" * 16)
    assert set(result.metadata) == {"digest", "record", "count", "inputs"}
    assert result.metadata["inputs"] == dg.MetadataValue.table(
        [dg.TableRecord({"input": "turns", "bundle": "rc1", "digest": "a" * 64})]
    )


@pytest.mark.parametrize(
    ("tags", "launched"),
    [
        ({}, "Dagster's page or API"),
        ({"dagster/schedule_name": "weekly_retraining"}, "schedule weekly_retraining"),
        ({"dagster/sensor_name": "feedback_threshold"}, "sensor feedback_threshold"),
        ({"mangaassist/driver": "12:3.4"}, "a command, process 12:3.4"),
    ],
)
def test_who_carries_out_is_what_systems_know(tags, launched):
    told = []

    @dg.asset
    def promoted(context):
        told.append(carried_out_by(context))

    run = dg.materialize([promoted], tags={**tags, "user": "release-managers"})
    (one,) = told
    assert (one["launched_by"], one["dagster_run"], one["os_uid"]) == (launched, run.run_id, str(os.getuid()))
    assert one["dagster_user"] == "release-managers"
    assert "aws_caller" not in one

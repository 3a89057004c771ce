"""Results of checks: a problem fails them and is named."""

from __future__ import annotations

import dagster as dg

from mangaassist_assets.assets.common import check_result


def test_a_check_without_problems_passes_and_says_so():
    result = check_result([], {"found": 0}, all_well="nothing found")
    assert result.passed
    assert result.description == "nothing found"


def test_problems_fail_a_check_and_are_its_description():
    result = check_result(["one", "two"], {"found": 2}, all_well="nothing found", severity=dg.AssetCheckSeverity.WARN)
    assert not result.passed
    assert (result.description, result.severity) == ("one; two", dg.AssetCheckSeverity.WARN)
    assert result.metadata["found"] == dg.MetadataValue.int(2)

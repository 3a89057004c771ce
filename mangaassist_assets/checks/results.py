"""What results of checks share: a check passes where there is no problem, and its description names them all."""

from collections.abc import Mapping, Sequence

import dagster as dg

from mangaassist_assets.assets.common import metadata
from mangaassist_assets.core.figures import Figure


def check_result(
    problems: Sequence[str],
    figures: Mapping[str, Figure | dg.MetadataValue],
    *,
    all_well: str,
    severity: dg.AssetCheckSeverity = dg.AssetCheckSeverity.ERROR,
) -> dg.AssetCheckResult:
    """Return the result of a check.

    Args:
        problems: A sentence each; without any the check passes.
        figures: What is shown beside them.
        all_well: The description where there is no problem.
        severity: Of the problems.
    """
    return dg.AssetCheckResult(
        passed=not problems,
        severity=severity,
        description="; ".join(problems) or all_well,
        metadata=metadata(figures),
    )

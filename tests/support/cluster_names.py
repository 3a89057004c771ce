"""Names of groups of messages, from the messages alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mangaassist_assets.mining.naming.key_terms import count_groups, name_counted


def name_groups(
    groups: Mapping[str, Sequence[str]], *, speakers: Mapping[str, Sequence[str]] | None = None, **options
) -> dict[str, str]:
    return name_counted(count_groups(groups, speakers=speakers), **options)

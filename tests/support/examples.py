"""How many examples a property is tried on: all of them, or a few in the quick profile of `make check`."""

from __future__ import annotations

from hypothesis import settings

QUICK = 25


def examples(whole: int) -> int:
    """Return a number of examples for `settings(max_examples=...)`, which a profile alone does not lower."""
    return min(whole, QUICK) if settings.get_current_profile_name() == "quick" else whole

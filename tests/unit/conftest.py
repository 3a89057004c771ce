"""Fixtures of the unit tests."""

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny encoder by its name in `tests.support.tiny_encoders`, written once."""
    from tests.support.tiny_encoders import write_tiny_base

    root = tmp_path_factory.mktemp("bases")

    def folder(name: str) -> Path:
        place = root / name.replace(" ", "-")
        return place if place.exists() else write_tiny_base(place, name)

    return folder

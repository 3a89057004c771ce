"""Which pretrained encoder a local store starts from."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from mangaassist_assets.cli.commands.bootstrap import choose_base_model
from mangaassist_assets.local.home import Home
from mangaassist_assets.local.services import client_environment
from mangaassist_assets.models.encoders import BASE_MODEL_VARIABLE

ENGLISH = ["where is my order", "can I return this volume", "do you ship to Canada"] * 30
JAPANESE = ["注文はどこですか", "返品できますか"]


@pytest.fixture
def home(tmp_path, monkeypatch):
    # Set first, so that what the choice leaves behind is undone, too.
    monkeypatch.setenv(BASE_MODEL_VARIABLE, "")
    opened = Home.open(tmp_path / "home")
    monkeypatch.setenv("MANGAASSIST_HOME", str(opened.root))
    return opened


def choose(texts):
    said = []
    choose_base_model(SimpleNamespace(progress=said.append), texts)
    return said


@pytest.mark.parametrize(
    ("texts", "chosen"),
    [(ENGLISH, "packaged-minilm"), (ENGLISH + JAPANESE, "packaged-multilingual-e5"), ([], "packaged-minilm")],
)
def test_a_store_that_is_partly_japanese_starts_from_the_multilingual_encoder(home, texts, chosen):
    (said,) = choose(texts)
    assert chosen in said
    assert home.base_model() == chosen
    assert client_environment(home, {}, {})[BASE_MODEL_VARIABLE] == chosen


def test_what_somebody_named_is_not_overruled(home, monkeypatch):
    monkeypatch.setenv(BASE_MODEL_VARIABLE, "bases/ours")
    assert choose(ENGLISH + JAPANESE) == []
    assert home.base_model() is None
    assert client_environment(home, {}, {BASE_MODEL_VARIABLE: "bases/ours"})[BASE_MODEL_VARIABLE] == "bases/ours"


def test_a_home_before_its_bootstrap_names_none(home):
    assert BASE_MODEL_VARIABLE not in client_environment(home, {}, {})

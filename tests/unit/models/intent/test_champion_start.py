"""Claims about trainings that may start from the present champion."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mangaassist_assets.models.artifacts import seal_artifact
from mangaassist_assets.models.encoders.frozen_layers import FrozenLayers
from mangaassist_assets.models.intent import candidates as intent_candidates
from mangaassist_assets.models.intent.model import IntentClassifier
from mangaassist_assets.models.intent.training import IntentTrainingResult
from mangaassist_assets.training.checkpoints import Checkpoints
from tests.support.intent_training import MESSAGES, QUICK, examples, train_on, validation


@pytest.fixture(scope="module")
def base(tiny_base: Callable[[str], Path]) -> str:
    return str(tiny_base("bert"))


@pytest.fixture(scope="module")
def champion(base: str, tmp_path_factory: pytest.TempPathFactory) -> IntentTrainingResult:
    """Knows two of the four intents, and one that the dataset has not."""
    known = {intent: MESSAGES[intent] for intent in ("greeting", "return_item")} | {"karaoke": ["sing a song", "sing"]}
    config = replace(QUICK, epochs=1)
    return train_on(examples(known), [], config=config, base=base, output=tmp_path_factory.mktemp("champion") / "model")


def test_the_champions_encoder_is_tried_though_its_labels_differ(
    champion: IntentTrainingResult, base: str, tmp_path: Path
) -> None:
    result = train_on(
        examples(MESSAGES),
        validation(),
        base=base,
        config=QUICK,
        output=tmp_path / "model",
        champion=champion.directory,
    )
    for candidate in ("frozen_head", "from_champion", "fine_tuned"):
        assert 0.0 <= result.metrics[f"{candidate}_validation_accuracy"] <= 1.0
        assert result.metrics[f"{candidate}_seconds"] > 0
    assert result.intents == tuple(sorted(MESSAGES))
    assert result.started_from in {base, champion.digest}
    assert IntentClassifier.load(result.directory).labels == result.intents


def test_the_better_start_is_the_one_that_is_fine_tuned(
    champion: IntentTrainingResult, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def quality(candidate: intent_candidates.IntentCandidate, _examples: object) -> tuple[float, float]:
        return {"frozen_head": 0.5, "from_champion": 0.6, "fine_tuned": 0.7}[candidate.name], 0.0

    monkeypatch.setattr(intent_candidates, "_quality", quality)
    result = train_on(
        examples(MESSAGES),
        validation(),
        base=base,
        config=QUICK,
        output=tmp_path / "model",
        champion=champion.directory,
    )
    assert (result.kept, result.started_from) == ("fine_tuned", champion.digest)


def test_a_champion_of_the_same_base_costs_no_second_pass_through_the_frozen_layers(
    champion: IntentTrainingResult, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    build = FrozenLayers.__init__

    def counted(self: FrozenLayers, *arguments: object, **options: object) -> None:
        made.append(1)
        build(self, *arguments, **options)

    monkeypatch.setattr(FrozenLayers, "__init__", counted)
    config = replace(QUICK, fine_tune=False, refit=False)
    train_on(
        examples(MESSAGES),
        validation(),
        base=base,
        config=config,
        output=tmp_path / "model",
        champion=champion.directory,
    )
    assert len(made) == 3


def test_with_too_little_validation_training_starts_from_the_base_and_says_so(
    champion: IntentTrainingResult, base: str, tmp_path: Path
) -> None:
    result = train_on(
        examples(MESSAGES),
        validation(1),
        base=base,
        config=QUICK,
        output=tmp_path / "model",
        champion=champion.directory,
    )
    assert "too few to choose" in result.notices[0]
    assert result.started_from == base
    assert "from_champion_seconds" not in result.metrics


def test_a_champion_that_cannot_be_loaded_stops_no_training(base: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{}")
    seal_artifact(broken, "reranker")
    told: list[str] = []
    config = replace(QUICK, fine_tune=False)
    result = train_on(
        examples(MESSAGES),
        validation(),
        base=base,
        config=config,
        output=tmp_path / "model",
        champion=broken,
        progress=lambda progress: told.append(progress.notice) if progress.notice else None,
    )
    assert "the champion cannot be used" in result.notices[0]
    assert str(tmp_path) not in result.notices[0]
    assert told == list(result.notices)


def test_a_checkpoint_from_another_start_is_not_gone_on_from(
    champion: IntentTrainingResult, base: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    preferred = {"frozen_head": 1.0, "from_champion": 0.0, "fine_tuned": 2.0}
    monkeypatch.setattr(intent_candidates, "_quality", lambda candidate, _examples: (preferred[candidate.name], 0.0))
    told: list[str] = []

    def train(name: str) -> IntentTrainingResult:
        return train_on(
            examples(MESSAGES),
            validation(),
            base=base,
            config=replace(QUICK, checkpoint_steps=3),
            output=tmp_path / name,
            champion=champion.directory,
            checkpoints=Checkpoints(tmp_path / "checkpoints", "one"),
            progress=lambda progress: told.append(progress.notice) if progress.notice else None,
        )

    assert train("first").started_from == base
    preferred["from_champion"] = 1.5
    assert train("second").started_from == champion.digest
    assert "belongs to a training with other data or settings" in told[0]
    assert not [notice for notice in told if "goes on after" in notice]

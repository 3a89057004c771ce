import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.labelling.noise.label_noise import find_label_noise, nearest_intents
from mangaassist_assets.labelling.noise.mixture import noise_of_ratios


def clouds(intents, each, *, spread=0.5, seed=0):
    """Ids, intents and vectors of well separated intents."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(intents, 32))
    vectors = np.concatenate([centre + spread * generator.normal(size=(each, 32)) for centre in centres])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    names = [f"intent_{number // each}" for number in range(intents * each)]
    return [f"e{number:04}" for number in range(len(names))], names, vectors.astype(np.float32)


def flipped(names, share, seed=1):
    chooser = random.Random(seed)
    rows = set(chooser.sample(range(len(names)), round(share * len(names))))
    kinds = sorted(set(names))
    return [
        chooser.choice([kind for kind in kinds if kind != name]) if row in rows else name
        for row, name in enumerate(names)
    ], rows


@pytest.mark.parametrize("share", [0.0, 0.05, 0.15])
def test_planted_errors_are_counted_and_named(share):
    ids, names, vectors = clouds(8, 40)
    labels, rows = flipped(names, share)
    report = find_label_noise(ids, labels, vectors)
    assert report.estimated_rate == pytest.approx(share, abs=0.03)
    assert report.low <= report.estimated_rate <= report.high
    planted = {ids[row] for row in rows}
    found = {one.example_id for one in report.suspects}
    assert len(found & planted) >= 0.9 * len(planted)
    assert len(found - planted) <= 0.03 * len(ids)
    right = {one.example_id: one.likely for one in report.suspects}
    assert all(right[ids[row]] == names[row] for row in rows if ids[row] in right)


def test_the_worst_suspect_comes_first_with_what_it_should_be():
    ids, names, vectors = clouds(4, 30, spread=0.2)
    labels = ["intent_3" if row == 5 else name for row, name in enumerate(names)]
    first = find_label_noise(ids, labels, vectors).suspects[0]
    assert (first.example_id, first.given, first.likely) == ("e0005", "intent_3", "intent_0")
    assert first.probability > 0.5


def test_order_of_examples_changes_nothing():
    ids, names, vectors = clouds(4, 20)
    labels, _ = flipped(names, 0.1)
    order = list(range(len(ids)))
    random.Random(3).shuffle(order)
    shuffled = find_label_noise([ids[row] for row in order], [labels[row] for row in order], vectors[order])
    assert shuffled == find_label_noise(ids, labels, vectors)


@pytest.mark.parametrize(
    ("names", "why"),
    [
        ([], "fewer than two intents"),
        (["x"] * 30, "fewer than two intents"),
        (["x"] * 8 + ["y"] * 8, "16 examples of intents with 5 or more, at least 20"),
        ([f"only_{number}" for number in range(40)], "0 examples of intents with 5 or more"),
    ],
)
def test_where_nothing_can_be_said_there_is_no_estimate_and_the_reason(names, why):
    vectors = np.eye(max(len(names), 1), dtype=np.float32)[: len(names)]
    report = find_label_noise([f"e{number}" for number in range(len(names))], names, vectors)
    assert (report.estimated_rate, report.low, report.high, report.suspects) == (None, None, None, ())
    assert why in str(report.why)


def test_an_intent_with_one_example_is_not_judged_but_the_others_are():
    ids, names, vectors = clouds(3, 20)
    names[0] = "alone"
    report = find_label_noise(ids, names, vectors)
    assert (report.examples, report.unjudged) == (59, 1)
    assert "alone" not in {one.given for one in report.suspects}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"example_ids": ["a"]}, "1 example ids, 2 intents"),
        ({"example_ids": ["a", "a"]}, "example a comes twice"),
        ({"vectors": np.full((2, 2), np.inf, dtype=np.float32)}, "not finite"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    arguments = {"example_ids": ["a", "b"], "intents": ["x", "y"], "vectors": np.eye(2, dtype=np.float32)}
    arguments |= change
    with pytest.raises(ValueError, match=message):
        find_label_noise(arguments["example_ids"], arguments["intents"], arguments["vectors"])


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(0, 3))
@settings(deadline=None)
def test_any_labels_give_a_report_that_adds_up(names, seed):
    vectors = np.random.default_rng(seed).normal(size=(len(names), 4)).astype(np.float32)
    report = find_label_noise([f"e{number}" for number in range(len(names))], names, vectors)
    assert report.examples + report.unjudged == len(names)
    assert (report.estimated_rate is None) == (report.why is not None)
    assert all(one.given != one.likely and 0.5 < one.probability <= 1 for one in report.suspects)


def test_planted_errors_in_real_messages_are_found(shared_data):
    from resources.search.embeddings import LocalEmbedderResource

    texts = (shared_data / "hwu64" / "train.seq.in").read_text("utf-8").splitlines()
    names = (shared_data / "hwu64" / "train.label").read_text("utf-8").splitlines()
    chosen = sorted(set(names))[::12]
    rows = [row for intent in chosen for row in [at for at, name in enumerate(names) if name == intent][:35]]
    labels, planted = flipped([names[row] for row in rows], 0.05)
    vectors = LocalEmbedderResource().embedder().embed([texts[row] for row in rows])
    ids = [f"e{row}" for row in rows]
    report = find_label_noise(ids, labels, vectors)
    assert report.low <= 0.07
    assert report.high >= 0.05
    found = {one.example_id for one in report.suspects}
    assert sum(ids[row] in found for row in planted) >= 0.7 * len(planted)


@pytest.mark.parametrize("spread", [0.5, 0.9, 1.2])
def test_hard_messages_are_no_noise(spread):
    """The model errs on every tenth message and more, and no label is wrong."""
    ids, names, vectors = clouds(12, 30, spread=spread)
    report = find_label_noise(ids, names, vectors)
    assert report.low == 0.0
    assert report.estimated_rate <= 0.03


def test_flips_to_the_nearest_intent_are_counted_too():
    ids, names, vectors = clouds(8, 40)
    kinds = sorted(set(names))
    given = np.array([kinds.index(name) for name in names])
    nearest = nearest_intents(vectors, given, len(kinds))
    rows = set(random.Random(2).sample(range(len(names)), 48))
    labels = [kinds[nearest[given[row]]] if row in rows else name for row, name in enumerate(names)]
    report = find_label_noise(ids, labels, vectors)
    assert report.low <= 0.15 <= report.high
    assert report.estimated_rate == pytest.approx(0.15, abs=0.04)


def test_each_person_has_their_own_noise_with_an_interval():
    ids, names, vectors = clouds(8, 40)
    labels, _ = flipped(names, 0.0)
    wrong, rows = flipped(names[::4], 0.5)
    labels[::4] = wrong
    givers = [("eve",) if row % 4 == 0 else ("aki",) if row % 4 == 1 else () for row in range(len(ids))]
    givers[1] = ("aki", "ben")
    report = find_label_noise(ids, labels, vectors, givers=givers)
    eve, aki, ben = (report.by_giver[name] for name in ("eve", "aki", "ben"))
    assert (eve.labels, aki.labels, ben.labels) == (80, 80, 1)
    assert eve.suspects >= 0.8 * len(rows)
    assert eve.noise.low <= 0.5 <= eve.noise.high
    assert eve.noise.low > 0.3
    assert aki.noise.low == 0.0
    assert aki.noise.high < eve.noise.low
    assert ben.noise.high - ben.noise.low > 0.5, "one label says next to nothing"


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=40))
def test_an_interval_holds_its_estimate_whatever_the_labels_say(ratios):
    found = noise_of_ratios(np.array(ratios), np.full(len(ratios), 0.1))
    assert 0.0 <= found.low <= found.rate + 1e-4
    assert found.rate <= found.high + 1e-4 <= 1.0 + 1e-4
    assert found.labels == len(ratios)


def test_an_interval_is_wider_where_the_model_itself_is_unsure():
    ratios = np.array([0.01] * 80 + [50.0] * 20)
    sure, unsure = (noise_of_ratios(ratios, np.full(100, confusion)) for confusion in (0.0, 0.4))
    assert unsure.rate == sure.rate
    assert unsure.low == pytest.approx(sure.low - 0.15 * 0.4, abs=1e-3)
    assert unsure.high == pytest.approx(sure.high + 0.15 * 0.4, abs=1e-3)

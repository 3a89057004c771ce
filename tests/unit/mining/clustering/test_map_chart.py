import warnings

import numpy as np
import pytest
from matplotlib.figure import Figure

from mangaassist_assets.mining.clustering import map_chart
from mangaassist_assets.mining.clustering.map_chart import cluster_map


def drawn(monkeypatch, *arguments, **options):
    """Return the PNG and the texts of the legend and the title, as they would be read."""
    figures: list[Figure] = []
    original = map_chart.png
    monkeypatch.setattr(map_chart, "png", lambda figure: figures.append(figure) or original(figure))
    content = cluster_map(*arguments, **options)
    axes = figures[0].axes[0]
    legend = axes.get_legend()
    return content, [text.get_text() for text in legend.get_texts()] if legend else [], axes.get_title(loc="left")


def spread(count: int):
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)


def test_the_largest_groups_are_named_and_the_rest_and_the_noise_counted(monkeypatch):
    sizes = [*range(13, 1, -1)]
    groups = np.repeat(np.arange(12), sizes)
    names = {group: f"name {group}" for group in range(11)}
    content, legend, title = drawn(
        monkeypatch, spread(len(groups)), groups, names, noise=frozenset({0, 11}), title="Failed messages of 2026.03"
    )
    assert content.startswith(b"\x89PNG")
    assert legend[:2] == ["name 1 (12)", "name 2 (11)"]
    assert legend[-1] == "noise (15 in 2 groups)"
    assert len(legend) == 11
    assert title == "Failed messages of 2026.03"
    _, without_noise, _ = drawn(monkeypatch, spread(len(groups)), groups, names)
    assert without_noise[-1] == "the rest (5 in 2 groups)"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("costs $5 or $6", "costs $5 or $6"),
        (r"\$\frac{1}{", r"\$\frac{1}{"),
        (r"$\frac{1}{$", r"$\frac{1}{$"),
        ("_hidden", "_hidden"),
        ("<b>bold</b> | ../x", "<b>bold</b> | ../x"),
        ("two\nlines\x00", "two lines"),
        ("\u200b", "(no name)"),
        ("a" * 80, "a" * 33 + "…"),
        ("予約のキャンセル", "予約のキャンセル"),
        ("", "group 0"),
    ],
)
def test_names_are_shown_as_they_are_and_cut(monkeypatch, name, shown):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph")  # a machine without a Japanese font draws boxes
        content, legend, _ = drawn(monkeypatch, spread(3), np.zeros(3, dtype=int), {0: name}, title=name or "-")
    assert legend == [f"{shown} (3)"]
    assert content.startswith(b"\x89PNG")


def test_no_messages_give_a_picture_that_says_so(monkeypatch):
    content, legend, _ = drawn(monkeypatch, np.zeros((0, 2), dtype=np.float32), np.zeros(0, dtype=int), {})
    assert legend == []
    assert content.startswith(b"\x89PNG")


def test_the_same_map_is_the_same_picture():
    first, second = (cluster_map(spread(20), np.arange(20) % 3, {0: "a"}) for _ in range(2))
    assert first == second


def test_points_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"2 grouped messages need as many finite points, not shape \(3, 2\)"):
        cluster_map(spread(3), np.zeros(2, dtype=int), {})
    with pytest.raises(ValueError, match="finite"):
        cluster_map(np.full((2, 2), np.nan), np.zeros(2, dtype=int), {})

"""Which messages show a cluster: the nearest and the farthest, no two alike, the same on every run."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mangaassist_assets.mining.clustering.representatives import nearest_first, representatives


def fan(*degrees: float) -> np.ndarray:
    angles = np.radians(degrees)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def test_the_nearest_come_first_and_the_farthest_from_the_other_end():
    near, far = representatives(fan(-70, 0, 4, -9, 40, 50), list("abcdef"), list("ABCDEF"), nearest=2, farthest=2)
    assert near == (2, 1)
    assert far == (0, 5)


def test_all_of_a_cluster_can_be_had_in_order_of_nearness():
    assert nearest_first(fan(-70, 0, 4, -9, 40, 50), list("abcdef")) == (2, 1, 3, 4, 5, 0)
    assert nearest_first(fan(0, 0, 0), ["t3", "t1", "t2"]) == (1, 2, 0)


def test_no_text_is_shown_twice_however_it_is_spaced_and_written():
    vectors = fan(0, 0, 1, 30, 30)
    texts = ["Where is it", "where  is it ", "refund", "cancel", "CANCEL"]
    near, far = representatives(vectors, list("abcde"), texts, nearest=3, farthest=3)
    shown = [" ".join(texts[row].lower().split()) for row in near + far]
    assert sorted(shown) == ["cancel", "refund", "where is it"]


def test_ties_go_to_the_smaller_trace_id():
    near, far = representatives(fan(0, 0, 0), ["t3", "t1", "t2"], ["x", "y", "z"], nearest=1, farthest=1)
    assert (near, far) == ((1,), (2,))


def test_the_nearest_are_served_first_where_there_are_few():
    assert representatives(fan(0, 10), ["a", "b"], ["x", "y"], nearest=5, farthest=2)[1] == ()
    assert representatives(np.zeros((0, 2), dtype=np.float32), [], []) == ((), ())


def test_length_does_not_make_a_message_central():
    vectors = fan(0, 10, 20, 90)
    vectors[3] *= 1_000
    near, far = representatives(vectors, list("abcd"), list("ABCD"), nearest=1, farthest=1)
    assert far == (3,)
    assert near == (2,)


def test_blank_messages_and_zero_vectors_do_no_harm():
    vectors = fan(0, 1, 2)
    vectors[1] = 0
    near, far = representatives(vectors, list("abc"), ["x", "zero", " "], nearest=1, farthest=1)
    assert (near, far) == ((0,), (1,))
    assert representatives(vectors, list("abc"), ["x", "zero", " "], nearest=5)[0] == (0, 1)


def test_bad_inputs_are_named():
    with pytest.raises(ValueError, match="1 vectors, 2 trace ids and 1 texts"):
        representatives(fan(0), ["a", "b"], ["x"])
    with pytest.raises(ValueError, match="trace b is not finite"):
        representatives(np.array([[1, 0], [np.nan, 0]], dtype=np.float32), ["a", "b"], ["x", "y"])
    with pytest.raises(ValueError, match="must not be negative"):
        representatives(fan(0), ["a"], ["x"], nearest=-1)


@given(st.permutations(range(8)), st.integers(0, 5), st.integers(0, 5))
def test_the_order_of_the_members_changes_nothing(order, nearest, farthest):
    vectors, ids, texts = fan(0, 3, 7, 12, 12, 40, 41, -20), list("abcdefgh"), list("XYZXVWUT")
    near, far = representatives(vectors, ids, texts, nearest=nearest, farthest=farthest)
    shuffled = representatives(
        vectors[list(order)],
        [ids[row] for row in order],
        [texts[row] for row in order],
        nearest=nearest,
        farthest=farthest,
    )
    assert [[texts[order[row]] for row in rows] for rows in shuffled] == [
        [texts[row] for row in rows] for rows in (near, far)
    ]
    assert len(near) <= nearest
    assert len(far) <= farthest
    assert not set(near) & set(far)

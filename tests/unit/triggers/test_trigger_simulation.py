"""The benchmark's many streams at once are judged as the product judges one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mangaassist_assets.triggers.evidence import Reference
from mangaassist_assets.triggers.settings import TriggerConfig
from tests.support.trigger_simulation import first_firing, first_firings

SMALL = TriggerConfig(run_length=60.0, window_votes=200, minimum_shoppers=5, minimum_votes=20.0)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10**6),
    st.floats(0.02, 0.6),
    st.floats(0.02, 0.9),
    st.integers(0, 15),
    st.sampled_from([0.0, 50.0, 400.0]),
)
def test_many_streams_at_once_fire_when_each_would_alone(seed, share, later, changed, before):
    generator = np.random.default_rng(seed)
    votes = 20 * 15
    rate = np.where(np.arange(votes) < 20 * changed, share, later)
    downs = generator.random((3, votes)) < rate
    reference = Reference(down=float(round(before * share)), votes=before)
    together = first_firings(downs, reference, SMALL)
    alone = [first_firing([str(n) for n in range(votes)], own, reference, SMALL) for own in downs]
    assert together.tolist() == alone

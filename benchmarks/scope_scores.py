"""Ways to tell messages of known intents from others, for comparison: higher is more like a known intent."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_SHRINKAGE = 0.1
_NEIGHBOUR = 1


def all_scores(
    *, features: Array, logits: Array, train_features: Array, train_targets: NDArray[np.int64], temperature: float
) -> Mapping[str, Array]:
    """Return every score of some messages by name; shape (n,) each.

    Args:
        features: Of length one, shape (n, dim).
        logits: Of the head, shape (n, intents).
        train_features: What the head was fitted on, shape (m, dim).
        train_targets: Class numbers of these, shape (m,).
        temperature: Of the calibrated probabilities.
    """
    scaled = logits / temperature
    highest = scaled.max(axis=1)
    energy = highest + np.log(np.exp(scaled - highest[:, None]).sum(axis=1))
    means = np.stack([train_features[train_targets == one].mean(axis=0) for one in range(logits.shape[1])])
    within = _distances(features, means, train_features - means[train_targets])
    centre = train_features.mean(axis=0, keepdims=True)
    overall = _distances(features, centre, train_features - centre)
    directions = means / np.linalg.norm(means, axis=1, keepdims=True)
    return {
        "max_probability": np.exp(highest - energy),
        "max_logit": logits.max(axis=1),
        "energy": energy,
        "intent_cosine": (features @ directions.T).max(axis=1),
        "mahalanobis": -within.min(axis=1),
        "relative_mahalanobis": overall[:, 0] - within.min(axis=1),
        "nearest_message": np.sort(features @ train_features.T, axis=1)[:, -_NEIGHBOUR],
    }


def _distances(features: Array, means: Array, centred: Array) -> Array:
    """Return squared Mahalanobis distances to each mean, with one shrunk covariance: (n, means)."""
    covariance = centred.T @ centred / len(centred)
    dim = len(covariance)
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * np.trace(covariance) / dim * np.eye(dim)
    precision = np.linalg.inv(shrunk)
    own = ((features @ precision) * features).sum(axis=1)[:, None]
    theirs = ((means @ precision) * means).sum(axis=1)[None, :]
    return np.asarray(own - 2 * features @ precision @ means.T + theirs)

"""What frozen lower layers say about texts, kept for the whole process.

A store's passages are the same in every evaluation and request, and rerankers that were trained from one base share
their lower layers. One bounded cache serves all of them: its key holds the digest of those layers, so models that
differ never see each other's states. Training does not use it: the last bits of a state depend on the company it was
computed in, and two trainings with one seed must give the same weights.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mangaassist_assets.models.encoders.encoder import Encoder

CACHE_BYTES = 256 * 1024 * 1024

TokenIds = tuple[int, ...]
States = NDArray[np.float32]


class LayerStates:
    """Least-recently-used states by (layers' digest, token ids), up to `limit` bytes; for any number of threads."""

    def __init__(self, limit: int = CACHE_BYTES) -> None:
        self._limit = limit
        self._states: OrderedDict[tuple[str, TokenIds], States] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(
        self, layers_digest: str, sequences: Sequence[TokenIds], compute: Callable[[list[TokenIds]], list[States]]
    ) -> dict[TokenIds, States]:
        """Return the states of distinct sequences; those that are not kept are computed at once and then kept."""
        wanted = list(dict.fromkeys(sequences))
        with self._lock:
            found = {one: self._states[layers_digest, one] for one in wanted if (layers_digest, one) in self._states}
            for one in found:
                self._states.move_to_end((layers_digest, one))
        missing = [one for one in wanted if one not in found]
        computed = dict(zip(missing, compute(missing), strict=True)) if missing else {}
        with self._lock:
            for one, states in computed.items():
                if (layers_digest, one) not in self._states:
                    self._states[layers_digest, one] = states
                    self._bytes += states.nbytes
            while self._bytes > self._limit:
                _, oldest = self._states.popitem(last=False)
                self._bytes -= oldest.nbytes
        return found | computed

    @property
    def kept_bytes(self) -> int:
        """How many bytes of states are kept."""
        return self._bytes


SHARED = LayerStates()


def layers_digest(encoder: Encoder, layers: int) -> str:
    """Return the SHA-256 of the embeddings and the first `layers` layers: of all that their output depends on."""
    digest = hashlib.sha256(f"{encoder.model.config.model_type} {layers}".encode())
    parts = [encoder.embeddings(), *encoder.layers()[:layers]]
    for part in parts:
        for name, weight in sorted(part.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()

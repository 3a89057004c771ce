"""What dataset versions are made of: the inputs that their assets declare, and that their builders are held to."""

from mangaassist_assets.core.declared_inputs import Read

_TRAFFIC = Read(asset="tagged_traces", bundles="until")
_FIXED = (Read(asset="golden_set"), Read(asset="training_corpus"), Read(asset="knowledge_chunks"))

INTENT_DATASET_READS = (
    Read(asset="intent_labels", bundles="same"),
    Read(asset="intent_dataset", bundles="until", own=True),
    _TRAFFIC,
    *_FIXED,
)
"""Labels, earlier versions, who wrote which trace, and what is no traffic."""
RANKING_DATASET_READS = (
    Read(asset="reranker_dataset", bundles="until", own=True),
    Read(asset="review_queue", bundles="until"),
    _TRAFFIC,
    *_FIXED,
)
"""Earlier versions, reviewed turns and how they came to be, the corpus and the passages.

What the live index found is recorded beside them.
"""

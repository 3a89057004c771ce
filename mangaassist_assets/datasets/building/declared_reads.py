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
RANKING_DATASET_READS = (Read(asset="reranker_dataset", bundles="until", own=True), _TRAFFIC, *_FIXED)
"""Earlier versions, reviewed turns, the corpus and the passages; what the live index found is recorded beside them."""

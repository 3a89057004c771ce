"""Pretrained encoders: loading, running in parts, and embedding sentences.

Their packaged names stand here, where reading one loads nothing else.
"""

BASE_MODEL_VARIABLE = "MANGAASSIST_BASE_MODEL"
"""The pretrained encoder of models and embeddings; with `_<KIND>` behind it that of one kind of model."""
PACKAGED_MINILM = "packaged-minilm"
PACKAGED_E5 = "packaged-multilingual-e5"
DEFAULT_BASE = PACKAGED_MINILM
"""What models and embeddings start from where nothing is configured."""

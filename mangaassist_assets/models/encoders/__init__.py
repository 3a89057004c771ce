"""Pretrained encoders: loading, running in parts, and embedding sentences.

Their packaged names stand here, where reading one loads nothing else.
"""

PACKAGED_MINILM = "packaged-minilm"
PACKAGED_E5 = "packaged-multilingual-e5"
DEFAULT_BASE = PACKAGED_MINILM
"""What models and embeddings start from where nothing is configured."""

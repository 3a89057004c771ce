"""Pretrained encoders: loading, running in parts, and embedding sentences."""

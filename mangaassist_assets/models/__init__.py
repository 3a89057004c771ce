"""Models: what a model type is, its artifacts, and the model pipelines."""

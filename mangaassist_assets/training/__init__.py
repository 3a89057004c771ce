"""The training loop that all models share: checkpoints, compute, progress."""

"""From a trained artifact to a registered model version."""

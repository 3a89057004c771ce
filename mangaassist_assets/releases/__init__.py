"""Release manifests."""

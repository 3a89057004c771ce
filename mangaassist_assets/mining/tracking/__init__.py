"""Clusters over release bundles: identity, events, growth, history."""

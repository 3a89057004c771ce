"""Settings as resources: what a deployment may configure, without a system behind it."""

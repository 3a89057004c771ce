"""Groups of messages that mean alike: neighbours, communities, noise, maps."""

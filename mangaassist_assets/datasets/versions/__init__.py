"""Dataset versions at rest: content-addressed, with a data card and their recorded inputs."""

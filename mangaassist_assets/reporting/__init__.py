"""Reports of a release bundle for people."""

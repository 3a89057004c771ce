"""The two kinds of network that rank passages: in training, in files, and as they serve."""

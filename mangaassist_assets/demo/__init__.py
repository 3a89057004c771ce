"""The demo store: an invented manga shop with its knowledge and its traffic, written for this project."""

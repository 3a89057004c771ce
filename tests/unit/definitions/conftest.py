"""Fixtures of the tests of the graph."""

from tests.support.sentiment_platform import sentiment_package

__all__ = ["sentiment_package"]

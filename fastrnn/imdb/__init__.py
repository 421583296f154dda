"""Sentiment of IMDB reviews: the data, the networks, and the program that trains them."""

from fastrnn.imdb.errors import DataError

__all__ = ["DataError"]

"""Sentiment of film reviews with recurrent networks: the program `fastrnn-imdb`.

`fastrnn-imdb train --preset lstm` trains, `fastrnn-imdb evaluate` scores a saved checkpoint and
`fastrnn-imdb data` tells what data was found. It needs the extra: `pip install 'fastrnn[imdb]'`.
"""

from fastrnn.imdb.errors import DataError

__all__ = ["DataError"]

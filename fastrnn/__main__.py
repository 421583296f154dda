"""`python -m fastrnn` prints what runs here: for bug reports, and to check an installation."""

from fastrnn import info

print(info())

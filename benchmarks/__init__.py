"""Times fastrnn's layers against those of torch.nn; `python -m benchmarks --help`."""

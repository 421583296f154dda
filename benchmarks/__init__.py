"""Times fastrnn beside torch.nn and other engines; `python -m benchmarks --help`."""

"""Benchmark, ``make bench``: the cost of a message, beside that of the libraries under it; see docs/performance.md."""

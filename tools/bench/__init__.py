"""``make bench``: what a message costs, beside what the libraries under it cost; see docs/performance.md."""

"""Demo, ``make run``: the daemon with a private broker, simulated phones and a receiver."""

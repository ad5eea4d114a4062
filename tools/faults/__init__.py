"""Fault suite, ``make faults``: the daemon's promises, counted while the broker, the destination or it itself fails."""

"""The fault suite, ``make faults``: what the daemon promises, counted while things break around it."""

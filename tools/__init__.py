"""Tools that are run beside the daemon, and are not in the wheel: servers, demo, benchmark and fault suite."""

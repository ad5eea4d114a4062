"""What developers run beside the daemon: a private broker, a phone, a receiver.  Not in the wheel."""

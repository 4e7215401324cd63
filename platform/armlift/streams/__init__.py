"""Event streams: the port (`stream`) and its implementations, the embedded log first."""

"""The HTTP API of `armlift serve`."""

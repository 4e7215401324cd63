"""The jobs that run every night over a lab."""

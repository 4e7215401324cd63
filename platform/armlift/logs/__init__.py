"""Kuaishou-style logs: readers, sessions, and a generator."""

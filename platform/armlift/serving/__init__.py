"""Serving: what answers live units, without a word of HTTP."""

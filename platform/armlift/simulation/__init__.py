"""Simulated users: they come in sessions, get slates from their arms, and respond by a known model."""

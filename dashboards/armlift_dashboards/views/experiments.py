"""The page Experiments."""

from armlift_dashboards.source import Source


def show(source: Source) -> None:
    """Show the page."""

"""The page Results."""

from armlift_dashboards.source import Source


def show(source: Source) -> None:
    """Show the page."""

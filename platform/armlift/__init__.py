"""armlift: route users to recommender arms and read, with honest statistics, which arm lifts engagement."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from armlift.analysis import Analysis, analyze

__all__ = ["Analysis", "__version__", "analyze"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """Load the analysis of frames when it is asked for: the command line must answer at once."""
    if name in ("Analysis", "analyze"):
        from armlift import analysis

        return getattr(analysis, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""armlift: route users to recommender arms and read, with honest statistics, which arm lifts engagement."""

__version__ = "0.1.0"

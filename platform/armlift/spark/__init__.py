"""Spark: the queries of aggregates and rollup, asked of an archive instead of a database."""

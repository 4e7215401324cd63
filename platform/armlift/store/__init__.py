"""The database: tables, engine, schema version."""

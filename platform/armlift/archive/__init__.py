"""The archive: closed days of events as Parquet files, in a folder or an object store."""

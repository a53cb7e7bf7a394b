"""The log's events as flat records: JSON Lines, CSV, CloudEvents, Parquet.

This room imports `events`. Start with `export`.
"""

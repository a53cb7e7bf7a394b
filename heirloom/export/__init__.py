"""The log's events as flat records: JSON Lines, CSV, CloudEvents, Parquet.

It imports `events`. Start with `export`.
"""

"""The log's events as flat records: JSON Lines, CSV, CloudEvents, Parquet.

Start with `export`.
"""

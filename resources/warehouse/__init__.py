"""The warehouse: DuckDB or Redshift."""

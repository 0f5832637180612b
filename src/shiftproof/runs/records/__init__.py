"""The record tables: one row per image, one Parquet file per cell and model."""

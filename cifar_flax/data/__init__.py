"""Data sets: sources, cache, splits, preprocessing and batches."""

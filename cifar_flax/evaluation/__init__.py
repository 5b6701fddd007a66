"""The batched forward pass and the metrics."""

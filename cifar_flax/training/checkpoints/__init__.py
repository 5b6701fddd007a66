"""Checkpoints of a run: written while it trains, verified, found and restored."""

"""Augmentation inside the training step."""

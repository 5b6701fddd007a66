"""Accuracy under corruptions, grayscale and hue shifts."""

"""A map of images by their features."""

import numpy as np


def principal_components(x: np.ndarray, count: int = 2) -> np.ndarray:
    """Projects rows [N, F] on their `count` directions of largest variance: float [N, count], each with mean 0."""
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return u[:, :count] * s[:count]

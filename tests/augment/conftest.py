import jax
import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def key():
    return jax.random.key(0)


@pytest.fixture
def pictures():
    """Eight pictures uint8 [28, 36, 3] such as a camera takes: smooth colours, an edge, noise, not all of the range used."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(30, 220, (8, 5, 6, 3), dtype=np.uint8)
    smooth = np.stack([np.asarray(Image.fromarray(p).resize((36, 28), Image.Resampling.BICUBIC)) for p in coarse]).astype(int)
    smooth[:, 10:, 18:] -= 25
    return np.clip(smooth + rng.integers(-8, 9, smooth.shape), 3, 250).astype(np.uint8)

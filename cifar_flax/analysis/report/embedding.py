"""Images as the last layer sees them, and a map of them."""

from typing import Any

import flax.linen as nn
import jax
import numpy as np

from cifar_flax.data.dataset import Dataset
from cifar_flax.run import Run


def features(run: Run, dataset: Dataset, which: str | int = "best") -> np.ndarray:
    """What the last layer sees of each image: float32 [N, F]; `which` checkpoint is as in `Run.variables`."""
    variables, seen = run.variables(which), []

    def keep(call: Any, args: Any, kwargs: Any, context: Any) -> Any:
        if context.module.path == ("logits",):
            seen.append(args[0])
        return call(*args, **kwargs)

    @jax.jit
    def last(images: jax.Array) -> jax.Array:
        seen.clear()
        with nn.intercept_methods(keep):
            run.model.apply(variables, run.preprocessing.normalize(images), train=False)
        return seen[0]

    size = run.config.train.eval_batch_size
    parts = [np.asarray(last(dataset.images[start : start + size]), np.float32) for start in range(0, len(dataset), size)]
    return np.concatenate(parts)


def principal_components(x: np.ndarray, count: int = 2) -> np.ndarray:
    """Rows [N, F] by their `count` directions of largest variance: float [N, count], each with mean 0."""
    u, s, _ = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return u[:, :count] * s[:count]

"""Which pixels a prediction rests on."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cifar_flax.analysis.report.examples import probabilities
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.preprocessing import to_unit
from cifar_flax.run import Run

GREY = 128  # of the square that covers a place


def gradient_saliency(run: Run, image: np.ndarray, label: int, which: str | int = "best") -> np.ndarray:
    """How much each pixel moves the logit of a class: the gradient's size, the largest of the channels.

    Args:
      run: the network.
      image: uint8 [H, W, C].
      label: the class.
      which: the checkpoint, as in `Run.variables`.

    Returns:
      float32 [H, W], per unit of brightness in [0, 1].

    References:
      Simonyan et al., "Deep Inside Convolutional Networks", ICLR workshop 2014, section 3.
    """
    variables = run.variables(which)

    def logit(pixels: jax.Array) -> Any:
        logits: Any = run.model.apply(variables, run.preprocessing.standardize(pixels)[None], train=False)
        return logits[0, label]

    gradient = jax.jit(jax.grad(logit))(to_unit(jnp.asarray(image)))
    return np.asarray(jnp.abs(gradient).max(-1), np.float32)


def occlusion(run: Run, image: np.ndarray, label: int, size: int = 8, stride: int = 4, which: str | int = "best") -> np.ndarray:
    """What a class loses in probability while a grey square covers part of the image.

    Args:
      run: the network.
      image: uint8 [H, W, C].
      label: the class.
      size: of the square, in pixels.
      stride: between its places, in pixels.
      which: the checkpoint, as in `Run.variables`.

    Returns:
      float32 [rows, columns], a value a place; negative where the class is likelier without what was covered.

    References:
      Zeiler & Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014, section 4.2.
    """
    places = [range(0, side - size + 1, stride) for side in image.shape[:2]]
    covered = np.repeat(image[None], len(places[0]) * len(places[1]) + 1, axis=0)
    for k, (row, column) in enumerate(((i, j) for i in places[0] for j in places[1]), 1):
        covered[k, row : row + size, column : column + size] = GREY
    labels = np.full(len(covered), label, np.int32)
    probs = probabilities(run.predict(Dataset(covered, labels, run.class_names), which))[:, label]
    return (probs[0] - probs[1:]).reshape(len(places[0]), len(places[1]))

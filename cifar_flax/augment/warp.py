"""Affine maps and the one bilinear resampling that applies them."""

import jax
import jax.numpy as jnp

from cifar_flax.config.types import FillMode


def affine(degrees: jax.Array, shifts: jax.Array, scales: jax.Array, size: tuple[int, int]) -> tuple[jax.Array, jax.Array]:
    """Composes a rotation, a shift and a zoom about the centre of an image, as Keras' ImageDataGenerator does.

    Args:
      degrees: float32 []; a positive angle turns the image clockwise.
      shifts: float32 [2], rows and columns in pixels; positive ones move the image up and left, before the rotation.
      scales: float32 [2], of height and width; above 1 makes the image smaller.
      size: height and width.

    Returns:
      A float32 [2, 2] matrix and a float32 [2] offset, for `warp`.
    """
    radians = jnp.deg2rad(degrees)
    cosine, sine = jnp.cos(radians), jnp.sin(radians)
    matrix = jnp.array([[cosine, -sine], [sine, cosine]])
    centre = (jnp.array(size) - 1) / 2
    shift = (matrix * shifts).sum(1)  # not `@`: a matrix product may round to TF32
    matrix = matrix * scales
    return matrix, shift + centre - (matrix * centre).sum(1)


def warp(image: jax.Array, matrix: jax.Array, offset: jax.Array, mode: FillMode, value: float = 0.0) -> jax.Array:
    """Resamples an image bilinearly: the pixel at (row, column) comes from `matrix @ (row, column) + offset`.

    The same as `scipy.ndimage.affine_transform(order=1)` in its modes nearest, reflect, grid-wrap (our `wrap`) and
    grid-constant (our `constant`). Grid-constant blends edge pixels with the fill value; SciPy's plain "constant" would
    replace a whole row by it for a shift of a hundredth of a pixel.

    Args:
      image: float [H, W, C].
      matrix: float32 [2, 2].
      offset: float32 [2], in pixels.
      mode: how pixels outside of the image are filled.
      value: fill value of mode `constant`.
    """
    height, width, _ = image.shape
    row, column = jnp.arange(height, dtype=jnp.float32)[:, None], jnp.arange(width, dtype=jnp.float32)
    rows, columns = (m[0] * row + m[1] * column + b for m, b in zip(matrix, offset, strict=True))
    top, left = jnp.floor(rows), jnp.floor(columns)
    down, right = (rows - top)[..., None], (columns - left)[..., None]

    def pixels(row: jax.Array, column: jax.Array) -> jax.Array:
        filled = image[_inside(row, height, mode), _inside(column, width, mode)]
        if mode is not FillMode.CONSTANT:
            return filled
        within = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        return jnp.where(within[..., None], filled, value)

    upper = (1 - right) * pixels(top, left) + right * pixels(top, left + 1)
    lower = (1 - right) * pixels(top + 1, left) + right * pixels(top + 1, left + 1)
    return (1 - down) * upper + down * lower


def _inside(position: jax.Array, size: int, mode: FillMode) -> jax.Array:
    """Maps a float position that is an integer, inside or outside of the image, to an index in [0, size)."""
    if mode is FillMode.WRAP:
        position = position - size * jnp.floor(position / size)
    elif mode is FillMode.REFLECT:
        position = position - 2 * size * jnp.floor(position / (2 * size))
        position = jnp.minimum(position, 2 * size - 1 - position)
    return jnp.clip(position, 0, size - 1).astype(jnp.int32)

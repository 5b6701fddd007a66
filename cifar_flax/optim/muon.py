"""Muon as the CIFAR speed runs have it, for the kernels of convolutions, beside SGD for everything else."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

# Of the polynomial a x + b x^3 + c x^5 whose iteration takes singular values close to 1 the fastest: Jordan et al. 2024.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
EPSILON = 1e-7  # added to norms that are divided by


class MuonState(NamedTuple):
    """The momentum of each kernel."""

    momentum: Any


def scale_by_orthogonalized_momentum(momentum: float, steps: int) -> optax.GradientTransformation:
    """Nesterov momentum, not damped, of which each kernel's part is taken to the nearest semi-orthogonal matrix.

    `optax.contrib.scale_by_muon` differs: its momentum is an average with bias correction.

    Args:
      momentum: share of the old one that is kept.
      steps: Newton-Schulz iterations.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, algorithm 2.
    """

    def init(params: Any) -> MuonState:
        return MuonState(optax.tree.zeros_like(params))

    def update(grads: Any, state: MuonState, params: Any = None) -> tuple[Any, MuonState]:
        new = jax.tree.map(lambda m, g: momentum * m + g, state.momentum, grads)
        ahead = jax.tree.map(lambda m, g: momentum * m + g, new, grads)
        return jax.tree.map(lambda kernel: orthogonalize(kernel, steps), ahead), MuonState(new)

    return optax.GradientTransformation(init, update)


def renormalize() -> optax.GradientTransformation:
    """Adds to the update of each kernel [..., out] what brings the kernel's norm to sqrt(out) before it: needs `params`."""

    def one(update: jax.Array, kernel: jax.Array) -> jax.Array:
        return update + kernel * (kernel.shape[-1] ** 0.5 / (jnp.linalg.norm(kernel) + EPSILON) - 1)

    return optax.stateless_with_tree_map(one)


def orthogonalize(kernel: jax.Array, steps: int) -> jax.Array:
    """The kernel [..., out] as a matrix with its singular values brought close to 1; float32, of the same shape.

    Each iteration multiplies the matrix x with a polynomial of x x^T. All of them are found from the first x x^T, which is
    smaller than a long x, and x is multiplied once, in the end.

    Args:
      kernel: float32, at least two axes.
      steps: Newton-Schulz iterations; after 3, the values that began above a tenth of the norm lie within [.3, 1.3].
    """
    a, b, c = NEWTON_SCHULZ
    matrix = kernel.reshape(-1, kernel.shape[-1])
    matrix /= jnp.linalg.norm(matrix) + EPSILON
    tall = matrix.shape[0] > matrix.shape[1]
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    product = identity = jnp.eye(len(gram), dtype=gram.dtype)
    for step in range(steps):
        factor = a * identity + b * gram + c * gram @ gram
        product = factor @ product if step else factor
        gram = factor @ gram @ factor
    return (matrix @ product if tall else product @ matrix).reshape(kernel.shape)

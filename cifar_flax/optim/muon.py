"""Muon: momentum orthogonalized by Newton-Schulz iterations, for hidden kernels; another optimizer for the other parameters."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import optax

from cifar_flax.config.specs import OptimizerSpec
from cifar_flax.config.types import ConfigBase, NonNegative, Positive, Repeats, UnitIntervalOpen
from cifar_flax.errors import ConfigError
from cifar_flax.optim.groups import decay_kernels, group_of, is_kernel, matches, path_name
from cifar_flax.optim.norms import norm
from cifar_flax.optim.sgd import SGD

# The polynomial a x + b x^3 + c x^5 whose iteration brings singular values close to 1 the fastest: Jordan et al. 2024.
NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)
EPSILON = 1e-7  # added to norms that are divided by
ADAM_RMS = 0.2  # of AdamW's updates; Liu et al., "Muon is Scalable for LLM Training", 2025, section 2.2

PROJECTIONS = ("query", "key", "value")  # modules of flax.linen.MultiHeadDotProductAttention with kernels [in, heads, features]


@dataclass(slots=True)
class Muon(OptimizerSpec):
    """Muon for the kernels of hidden layers, a convolution's as a matrix [H * W * I, O]; Adam for all other parameters.

    The kernels [I, heads, D] of Flax's attention, which are called `query`, `key` and `value`, are matrices [I, heads * D].

    Both take the same learning rate, since Muon's updates are scaled to the size of Adam's, as in Keras. Muon is made for
    hidden layers: the last layer, and embeddings where there are any, belong to Adam. `adam` names them by shell patterns of
    paths of parameters. The default matches a last layer called `logits` or `head`; a network without a match is refused.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024.
    """

    momentum: UnitIntervalOpen = 0.95
    nesterov: bool = False
    adam: tuple[str, ...] = ("logits/*", "*/logits/*", "head/*", "*/head/*")  # kernels that Adam updates; () is none
    b1: UnitIntervalOpen = 0.9  # Adam's
    b2: UnitIntervalOpen = 0.999  # Adam's
    eps: Positive = 1e-7  # added to norms that are divided by
    weight_decay: NonNegative = 0.0  # decoupled; kernels only

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Muon and Adam at the rates of `schedule`."""
        muon = optax.chain(
            optax.contrib.scale_by_muon(
                beta=self.momentum, eps=self.eps, nesterov=self.nesterov, weight_dimension_numbers=_as_matrices
            ),
            optax.stateless(lambda updates, _: jax.tree_util.tree_map_with_path(_scale_like_adam, updates)),
        )
        rules = {"muon": muon, "adam": optax.scale_by_adam(self.b1, self.b2, self.eps)}

        def label(path: Any, p: jax.Array) -> str:
            name = path_name(path)
            return "muon" if is_kernel(name, p.shape) and not matches(self.adam, name) else "adam"

        return optax.chain(
            optax.partition(rules, lambda params: jax.tree_util.tree_map_with_path(label, params)),
            decay_kernels(self, self.weight_decay),
            optax.scale_by_learning_rate(schedule),
        )

    def check_parameters(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses a network in which `adam` matches no kernel, so that Muon would update its last layer."""
        kernels = [path for path, shape in shapes.items() if is_kernel(path, shape)]
        if self.adam and not any(matches(self.adam, path) for path in kernels):
            raise ConfigError(
                f"config.optim.adam: {self.adam!r} matches no kernel, and Muon is not made for the last layer of a network; "
                f"name that layer by a shell pattern of names such as {', '.join(kernels[-3:])}"
            )


@dataclass(slots=True)
class MuonConfig(ConfigBase):
    """The part of muon_sgd that updates convolution kernels; the shape of its schedule is that of `optim.learning_rate`."""

    learning_rate: Positive = 0.18  # the schedule's peak
    momentum: UnitIntervalOpen = 0.6  # Nesterov's
    newton_schulz_steps: Repeats = 3


@dataclass(slots=True)
class MuonSGD(SGD):
    """Muon of the CIFAR speed runs for convolution kernels (those of four axes), SGD for all other parameters.

    It keeps each kernel at one norm. The two learning rates follow one schedule and differ in their peaks only; momentum and
    weight decay are those of SGD.

    References:
      Jordan, cifar10-airbench, airbench94_muon.py, 2024.
    """

    plateau_conflict: ClassVar[str] = "muon_sgd brings kernels to their norm with every update, and would not with a part of it"

    muon: MuonConfig = field(default_factory=MuonConfig)

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """Muon and SGD, the latter at the rates of `schedule`."""
        ratio = self.muon.learning_rate / self.learning_rate
        muon = optax.chain(
            scale_by_orthogonalized_momentum(self.muon.momentum, self.muon.newton_schulz_steps),
            optax.scale_by_learning_rate(lambda step: ratio * schedule(step)),
            renormalize(),
        )
        sgd = SGD.transform(self, schedule)

        def labels(params: Any) -> Any:
            return jax.tree.map(lambda p: "muon" if p.ndim == 4 else "sgd", params)

        return optax.partition({"muon": muon, "sgd": sgd}, labels)

    def check_parameters(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses networks without a convolution to train, and groups that give one a learning rate or weight decay of its own.

        The norm of a convolution is kept, whatever they are.
        """
        if not any(len(shape) == 4 and not matches(self.freeze, path) for path, shape in shapes.items()):
            raise ConfigError(
                "config.optim.muon: this network has no convolution that is trained, and muon_sgd would be sgd; take that"
            )
        for path, shape in shapes.items():
            group = group_of(self, path)
            if len(shape) == 4 and group.weight_decay:
                raise ConfigError(
                    f"config.optim.groups: {path} has a weight decay, and muon_sgd keeps the norm of every convolution; "
                    "decay other parameters"
                )
            if len(shape) == 4 and group.learning_rate != 1:
                raise ConfigError(
                    f"config.optim.groups: {path} has a learning rate of its own, and muon_sgd one for all convolutions: "
                    "set config.optim.muon.learning_rate, and groups for other parameters"
                )


class MuonState(NamedTuple):
    """The momentum of each kernel."""

    momentum: Any


def scale_by_orthogonalized_momentum(momentum: float, steps: int) -> optax.GradientTransformationExtraArgs:
    """Nesterov momentum, not damped, each kernel's part of which is brought to the nearest semi-orthogonal matrix.

    `optax.contrib.scale_by_muon` differs: its momentum is an average with bias correction. The matrix products of an update are
    computed in its argument `compute_dtype`, float32 if not given.

    Args:
      momentum: share of the previous momentum that is kept.
      steps: Newton-Schulz iterations.

    References:
      Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024, algorithm 2.
    """

    def init(params: Any) -> MuonState:
        return MuonState(optax.tree.zeros_like(params))

    def update(
        grads: Any, state: MuonState, params: Any = None, *, compute_dtype: Any = jnp.float32, **_: Any
    ) -> tuple[Any, MuonState]:
        new = jax.tree.map(lambda m, g: momentum * m + g, state.momentum, grads)
        nesterov = jax.tree.map(lambda m, g: momentum * m + g, new, grads)
        return jax.tree.map(lambda kernel: orthogonalize(kernel, steps, compute_dtype), nesterov), MuonState(new)

    return optax.GradientTransformationExtraArgs(init, update)


def renormalize() -> optax.GradientTransformation:
    """Adds the change that brings the norm of each kernel [..., out] to sqrt(out) before the update; needs `params`."""

    def add_change(update: jax.Array, kernel: jax.Array) -> jax.Array:
        return update + kernel * (kernel.shape[-1] ** 0.5 / (norm(kernel) + EPSILON) - 1)

    return optax.stateless_with_tree_map(add_change)


def orthogonalize(kernel: jax.Array, steps: int, dtype: Any = jnp.float32) -> jax.Array:
    """Brings the singular values of the kernel [..., out], as a matrix, close to 1; float32, of the same shape.

    Each iteration multiplies the matrix x with a polynomial of x x^T. All polynomials are computed from the first x x^T, which
    is smaller than a long x, and x is multiplied once, in the end. The polynomial's multiple of the identity is added to
    products, never to a factor: as the largest entry of a rounded factor it would shift all singular values alike.

    Args:
      kernel: float32, at least two axes.
      steps: Newton-Schulz iterations; after 3, the values that began above a tenth of the norm lie within [.3, 1.3].
      dtype: of the matrix products; bfloat16, as in the reference, moves singular values by less than .015.
    """
    a, b, c = NEWTON_SCHULZ
    matrix = kernel.reshape(-1, kernel.shape[-1])
    matrix = (matrix / (norm(matrix) + EPSILON)).astype(dtype)
    tall = matrix.shape[0] > matrix.shape[1]
    gram = matrix.T @ matrix if tall else matrix @ matrix.T
    product = jnp.eye(len(gram), dtype=dtype)
    for step in range(steps):
        rest = _sum(b, gram, c, gram @ gram)  # the factor without its multiple of the identity
        product = _sum(a, product, 1, rest @ product if step else rest)  # at first it is the identity
        half = _sum(a, gram, 1, rest @ gram)
        gram = _sum(a, half, 1, half @ rest)
    return (matrix @ product if tall else product @ matrix).astype(jnp.float32).reshape(kernel.shape)


def _sum(a: float, x: jax.Array, b: float, y: jax.Array) -> jax.Array:
    """Returns a x + b y, rounded once."""
    return (a * x.astype(jnp.float32) + b * y.astype(jnp.float32)).astype(x.dtype)


def _scale_like_adam(path: Any, update: jax.Array) -> jax.Array:
    outputs = math.prod(update.shape[_first_output(path, update) :])
    return update * (ADAM_RMS * math.sqrt(max(update.size // outputs, outputs)))


def _as_matrices(kernels: Any) -> Any:
    def matrix(path: Any, kernel: jax.Array) -> optax.contrib.MuonDimensionNumbers:
        first = _first_output(path, kernel)
        return optax.contrib.MuonDimensionNumbers(tuple(range(first)), tuple(range(first, kernel.ndim)))

    return jax.tree_util.tree_map_with_path(matrix, kernels)


def _first_output(path: Any, kernel: jax.Array) -> int:
    """The first of a kernel's axes that belong to the outputs: the last one, but two in projections of attention."""
    projects = path_name(path).rpartition("/")[0].rpartition("/")[2] in PROJECTIONS
    return kernel.ndim - (2 if projects and kernel.ndim == 3 else 1)

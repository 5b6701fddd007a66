"""The training step: a pure function from a state and a batch to the next state and the batch's metrics."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cifar_flax.augment.policy import create_augmentation
from cifar_flax.config import Config
from cifar_flax.data.batches import Batch
from cifar_flax.data.preprocessing import Preprocessing, to_unit
from cifar_flax.evaluation.metrics import Metrics, batch_metrics
from cifar_flax.models import Variables
from cifar_flax.optim.freezing import apply_frozen
from cifar_flax.optim.losses import create_loss, example_weights
from cifar_flax.optim.norms import tree_norm
from cifar_flax.runtime.devices import compute_dtype
from cifar_flax.training.state import TrainState

if TYPE_CHECKING:
    from cifar_flax.training.distillation import Teacher

SAM_EPSILON = 1e-12  # a gradient of 0 stays where it is, instead of being divided by its norm
STEP_METRICS = ("loss", "cross_entropy", "top1", "top2", "top3", "top5", "grad_norm")  # of a step, in the order of its results


@dataclass(frozen=True, eq=False)  # its arrays have no truth value to compare by
class TrainStep:
    """The pure function (state, batch) -> (state, metrics), to be called within jit, scan and vmap.

    Metrics are float32 [len(STEP_METRICS)]: the loss of the config, with label smoothing and class weights; the cross-entropy
    without either, which is the loss that validation images have (of mixed images, with their mixed targets); the shares of
    images whose label is among the k highest logits; the norm of the gradient. They, and the statistics of BatchNorm, come from
    the parameters before the step, with sharpness-aware minimisation too.

    With `config.train.microbatches` the batch is augmented as a whole and then computed in as many parts, one after another, to
    need less memory; the gradient is the mean over all images, each counted once. BatchNorm normalises each part by its own
    statistics and updates the running ones with every part, so results differ from those of one large batch where there is
    BatchNorm, and only there.

    Attributes:
      config: of the run.
      model, optimizer: built from it.
      preprocessing: of the training set.
      steps_per_epoch: full batches in an epoch.
      image_size: pixels a side that images are resized to after augmentation, bilinearly and with antialiasing; None leaves
        them as they are.
      class_weights: float32 [num_classes], by which losses are multiplied; None: by nothing.
      teacher: whose predictions are a part of the targets; None: there is none.
    """

    config: Config
    model: nn.Module
    optimizer: optax.GradientTransformationExtraArgs
    preprocessing: Preprocessing
    steps_per_epoch: int
    image_size: int | None = None
    class_weights: np.ndarray | None = None
    teacher: "Teacher | None" = None

    def __call__(
        self, state: TrainState, batch: Batch, teacher_variables: Variables | None = None
    ) -> tuple[TrainState, jax.Array]:
        """One update; `state` is not changed.

        A teacher predicts for the whole batch at once, whatever `microbatches` is: it keeps nothing for a gradient.

        Args:
          state: of one run.
          batch: images uint8 [B, H, W, C], before augmentation; labels and indices int32 [B].
          teacher_variables: {"params", "batch_stats"} of the teacher; None without one.

        Returns:
          The state after the update, and metrics float32 [len(STEP_METRICS)].
        """
        key = jax.random.fold_in(jax.random.key(state.seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        images, targets, soft_targets = self._inputs(augment_key, batch, state.step // self.steps_per_epoch, teacher_variables)
        weights = None if self.class_weights is None else example_weights(targets, self.class_weights)
        gradient = self._gradient_of(images, soft_targets, weights, state.batch_stats, dropout_key)
        grads, grad_norm, (losses, logits, batch_stats) = _sharpness_aware(gradient, state.params, self.config.optim.sam_rho)
        dtype = compute_dtype(self.config.train.dtype)
        extra_args = {"compute_dtype": dtype, "value": losses.mean()}
        updates, opt_state = self.optimizer.update(grads, state.opt_state, state.params, **extra_args)
        if state.learning_rate_scale is not None:
            updates = optax.tree.scale(state.learning_rate_scale, updates)
        params = optax.apply_updates(state.params, updates)

        count, classes = self.config.train.microbatches, logits.shape[1]
        labels, targets = _parts(batch.labels, count).reshape(-1), _parts(targets, count).reshape(-1, classes)  # as the logits
        # The barrier keeps them out of the loss, whose bits would otherwise depend on what else is measured.
        metrics = batch_metrics(losses, jax.lax.optimization_barrier(logits), labels, targets)
        empty = Metrics.empty()
        new_epoch = state.step % self.steps_per_epoch == 0
        so_far = jax.tree.map(lambda empty, old: jnp.where(new_epoch, empty, old), empty, state.metrics)
        new = state.replace(  # type: ignore[attr-defined]  # of flax.struct.dataclass
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=_average(state, {"params": params, "batch_stats": batch_stats}, self.config.optim.ema_decay),
            metrics=so_far.merge(metrics),
        )
        values = {**metrics.compute(), "grad_norm": grad_norm}
        return new, jnp.stack([values[name].astype(jnp.float32) for name in STEP_METRICS])

    def _inputs(
        self, key: jax.Array, batch: Batch, epoch: jax.Array, teacher_variables: Variables | None
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Float32: network inputs [B, H, W, C], targets [B, num_classes], and these mixed with a teacher's predictions."""
        targets = jax.nn.one_hot(batch.labels, self.preprocessing.num_classes)
        augment = create_augmentation(self.config.augment)
        images, targets = augment(key, to_unit(batch.images), targets, batch.indices, epoch)
        soft_targets = targets
        if self.teacher is not None and teacher_variables is not None:
            soft_targets = self.teacher.targets(teacher_variables, images, targets)
        return self.preprocessing.standardize(_resize(images, self.image_size)), targets, soft_targets

    def _gradient_of(
        self, images: jax.Array, targets: jax.Array, weights: jax.Array | None, batch_stats: Any, dropout_key: jax.Array
    ) -> Callable[[Any], tuple[Any, Any]]:
        """From parameters to the gradient of the mean loss, and (losses [B], logits [B, num_classes], batch_stats)."""
        apply, loss = apply_frozen(self.model, self.config.optim.freeze), create_loss(self.config)

        def loss_fn(params: Any, stats: Any, key: jax.Array, inputs: Any) -> tuple[jax.Array, Any]:
            images, targets, weights = inputs
            variables = {"params": params, "batch_stats": stats}
            logits, updates = apply(variables, images, train=True, rngs={"dropout": key}, mutable=["batch_stats"])
            losses = loss(logits, targets) if weights is None else weights * loss(logits, targets)
            return losses.mean(), (losses, logits, updates.get("batch_stats", {}))

        grad_fn, count, inputs = jax.grad(loss_fn, has_aux=True), self.config.train.microbatches, (images, targets, weights)
        if count == 1:
            return lambda params: grad_fn(params, batch_stats, dropout_key, inputs)

        def accumulate(params: Any) -> tuple[Any, Any]:
            def add(carry: Any, part: Any) -> tuple[Any, Any]:
                total, stats = carry
                grads, (losses, logits, stats) = grad_fn(params, stats, *part)
                return (jax.tree.map(jnp.add, total, grads), stats), (losses, logits)

            parts = (jax.random.split(dropout_key, count), jax.tree.map(lambda x: _parts(x, count), inputs))
            zeros = jax.tree.map(jnp.zeros_like, params)
            # A CPU runs the gradients of convolutions within a loop 50 times slower (jax-ml/jax#12868).
            unroll = jax.default_backend() == "cpu"
            (total, stats), (losses, logits) = jax.lax.scan(add, (zeros, batch_stats), parts, unroll=unroll)
            grads = jax.tree.map(lambda g: g / count, total)
            return grads, (losses.reshape(-1), logits.reshape(-1, logits.shape[-1]), stats)

        return accumulate


def _parts(x: jax.Array, count: int) -> jax.Array:
    """[B, ...] as [count, B / count, ...]: every count-th row, so that parts are spread over devices as the batch is."""
    return x.reshape(-1, count, *x.shape[1:]).swapaxes(0, 1)


def _resize(images: jax.Array, size: int | None) -> jax.Array:
    n, height, width, channels = images.shape
    if size is None or (height, width) == (size, size):
        return images
    return jax.image.resize(images, (n, size, size, channels), "bilinear")


def _sharpness_aware(
    gradient: Callable[[Any], tuple[Any, Any]], params: Any, sam_rho: float
) -> tuple[Any, jax.Array, tuple[jax.Array, jax.Array, Any]]:
    """The gradient to descend by, the norm of the gradient at `params`, and the second result of `gradient` there.

    The first two differ with sharpness-aware minimisation only, which takes its gradient `sam_rho` up the slope.

    References:
      Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021, algorithm 1 with p = 2.
    """
    grads, aux = gradient(params)
    norm = tree_norm(grads)
    if sam_rho:
        grads, _ = gradient(optax.tree.add_scale(params, sam_rho / (norm + SAM_EPSILON), grads))
    return grads, norm, aux


def _average(state: TrainState, new: Variables, decay: float | None) -> Variables | None:
    """Exponential moving average, short in the beginning so that it forgets the initial values: TensorFlow's num_updates."""
    if decay is None:
        return None
    rate = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))

    def averaged(old: jax.Array, x: jax.Array) -> jax.Array:
        return rate * old + (1 - rate) * x if jnp.issubdtype(x.dtype, jnp.floating) else x  # a count is as it is

    return jax.tree.map(averaged, state.ema, new)

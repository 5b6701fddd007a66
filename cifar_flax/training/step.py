"""The jitted training and evaluation steps: from indices into the data on the device to a new state, or to metrics."""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh

from cifar_flax.augment.policy import Batch, create_augmentation
from cifar_flax.config import Config
from cifar_flax.data.preprocessing import Preprocessing, to_unit
from cifar_flax.evaluation.metrics import Metrics, batch_metrics
from cifar_flax.models import Variables
from cifar_flax.optim.freezing import apply_frozen
from cifar_flax.runtime.devices import DeviceData, compiler_options, replicated, sharded
from cifar_flax.training.state import TrainState, run_key

TrainStep = Callable[[TrainState, DeviceData, Any], tuple[TrainState, dict[str, jax.Array]]]
KeyedStep = Callable[[jax.Array, TrainState, DeviceData, Any], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[Variables, DeviceData, Any, Any], Metrics]

SAM_EPSILON = 1e-12  # a gradient of 0 stays where it is, instead of being divided by its norm


def make_train_step(
    config: Config,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    preprocessing: Preprocessing,
    steps_per_epoch: int,
    dtype: Any,
    mesh: Mesh,
    image_size: int | None = None,
) -> TrainStep:
    """Builds the jitted (state, data, indices int32 [batch_size]) -> (state, metrics of the batch); the state is donated."""
    step = training_step(config, model, optimizer, preprocessing, steps_per_epoch, image_size)

    def train_step(state: TrainState, data: DeviceData, indices: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        return step(run_key(config.seed), state, data, indices)

    every, split = replicated(mesh), sharded(mesh)
    return jax.jit(
        train_step,
        in_shardings=(every, every, split),
        out_shardings=every,
        donate_argnums=0,
        compiler_options=compiler_options(dtype),
    )


def training_step(
    config: Config,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    preprocessing: Preprocessing,
    steps_per_epoch: int,
    image_size: int | None = None,
) -> KeyedStep:
    """Builds the pure (key of the run, state, data, indices int32 [batch_size]) -> (state, metrics of the batch).

    Images are resized to `image_size` pixels a side after augmentation, bilinearly and with antialiasing; None leaves them.

    The metrics are float32 scalars: loss (label smoothing included), top1, top2, top3, top5 and grad_norm. They, and the
    statistics of BatchNorm, come from the parameters before the step, with sharpness-aware minimisation too.
    """
    augment = create_augmentation(config.augment)
    apply = apply_frozen(model, config.optim.freeze)
    smoothing, ema_decay, sam_rho = config.optim.label_smoothing, config.optim.ema_decay, config.optim.sam_rho

    def train_step(
        run: jax.Array, state: TrainState, data: DeviceData, indices: jax.Array
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(run, state.step)
        augment_key, dropout_key = jax.random.split(key)
        labels = data.labels[indices]

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            logits, updates = apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(batch.labels, smoothing))
            return losses.mean(), (losses, logits, updates.get("batch_stats", {}))

        batch = Batch(to_unit(data.images[indices]), jax.nn.one_hot(labels, preprocessing.num_classes), indices)
        batch = augment(augment_key, batch, state.step // steps_per_epoch)
        images = preprocessing.standardize(_resize(batch.images, image_size))
        grads, grad_norm, (losses, logits, batch_stats) = _gradient(loss_fn, state.params, sam_rho)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        if state.plateau is not None:
            updates = optax.tree.scale(state.plateau.scale, updates)
        params = optax.apply_updates(state.params, updates)

        metrics = batch_metrics(losses, logits, labels)
        new_epoch = state.step % steps_per_epoch == 0
        empty = Metrics.empty(preprocessing.num_classes)
        so_far = jax.tree.map(lambda empty, old: jnp.where(new_epoch, empty, old), empty, state.metrics)
        new = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=_average(state, {"params": params, "batch_stats": batch_stats}, ema_decay),
            metrics=so_far.merge(metrics),
            plateau=state.plateau,
            stopping=state.stopping,
        )
        return new, {**metrics.of_step(), "grad_norm": grad_norm}

    return train_step


def make_eval_step(model: nn.Module, preprocessing: Preprocessing, dtype: Any, mesh: Mesh) -> EvalStep:
    """Builds the jitted (variables, data, indices int32 [N], mask bool [N]) -> metrics of the batch."""

    def eval_step(variables: Variables, data: DeviceData, indices: jax.Array, mask: jax.Array) -> Metrics:
        images = preprocessing.normalize(data.images[indices])
        labels = data.labels[indices]
        logits: Any = model.apply(variables, images, train=False)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return batch_metrics(losses, logits, labels, mask)

    every, split = replicated(mesh), sharded(mesh)
    return jax.jit(
        eval_step,
        in_shardings=(every, every, split, split),
        out_shardings=every,
        compiler_options=compiler_options(dtype),
    )


def _resize(images: jax.Array, size: int | None) -> jax.Array:
    n, height, width, channels = images.shape
    if size is None or (height, width) == (size, size):
        return images
    return jax.image.resize(images, (n, size, size, channels), "bilinear")


def _gradient(loss_fn: Callable[[Any], tuple[jax.Array, Any]], params: Any, sam_rho: float) -> tuple[Any, jax.Array, Any]:
    """The gradient to descend by; the norm of the gradient at `params`; what `loss_fn` returns beside the loss there.

    The first two differ with sharpness-aware minimisation only, which takes its gradient `sam_rho` up the slope.

    References:
      Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization", ICLR 2021, algorithm 1 with p = 2.
    """
    grad_fn = jax.grad(loss_fn, has_aux=True)
    grads, aux = grad_fn(params)
    norm = optax.tree.norm(grads)
    if sam_rho:
        grads, _ = grad_fn(optax.tree.add_scale(params, sam_rho / (norm + SAM_EPSILON), grads))
    return grads, norm, aux


def _average(state: TrainState, new: Variables, decay: float | None) -> Variables | None:
    """Exponential moving average, short in the beginning so that it forgets the initial values: TensorFlow's num_updates."""
    if decay is None:
        return None
    rate = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    average: Variables = jax.tree.map(lambda old, x: rate * old + (1 - rate) * x, state.ema, new)
    return average

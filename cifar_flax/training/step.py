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
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.models import Variables
from cifar_flax.training.devices import DeviceData, compiler_options, replicated, sharded
from cifar_flax.training.metrics import Metrics, batch_metrics
from cifar_flax.training.state import TrainState, run_key

TrainStep = Callable[[TrainState, DeviceData, Any], tuple[TrainState, dict[str, jax.Array]]]
EvalStep = Callable[[Metrics, Variables, DeviceData, Any, Any], Metrics]


def make_train_step(
    config: Config,
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    preprocessing: Preprocessing,
    steps_per_epoch: int,
    dtype: Any,
    mesh: Mesh,
) -> TrainStep:
    """Builds the jitted (state, data, indices int32 [batch_size]) -> (state, metrics of the batch); the state is donated.

    The metrics are float32 scalars: loss (label smoothing included), top1, top2, top3, top5 and grad_norm.
    """
    augment = create_augmentation(config.augment)
    smoothing, ema_decay = config.optim.label_smoothing, config.optim.ema_decay

    def train_step(state: TrainState, data: DeviceData, indices: jax.Array) -> tuple[TrainState, dict[str, jax.Array]]:
        key = jax.random.fold_in(run_key(config.seed), state.step)
        augment_key, dropout_key = jax.random.split(key)
        labels = data.labels[indices]

        def loss_fn(params: Any) -> tuple[jax.Array, Any]:
            logits, updates = model.apply(
                {"params": params, "batch_stats": state.batch_stats},
                images,
                train=True,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
            losses = optax.softmax_cross_entropy(logits, optax.smooth_labels(batch.labels, smoothing))
            return losses.mean(), (losses, logits, updates.get("batch_stats", {}))

        batch = Batch(data.images[indices] / jnp.float32(255), jax.nn.one_hot(labels, preprocessing.num_classes), indices)
        batch = augment(augment_key, batch, state.step // steps_per_epoch)
        images = preprocessing.normalize(batch.images)
        grads, (losses, logits, batch_stats) = jax.grad(loss_fn, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)

        metrics = batch_metrics(losses, logits, labels)
        new_epoch = state.step % steps_per_epoch == 0
        so_far = jax.tree.map(lambda empty, old: jnp.where(new_epoch, empty, old), Metrics.empty(), state.metrics)
        new = TrainState(
            step=state.step + 1,
            params=params,
            batch_stats=batch_stats,
            opt_state=opt_state,
            ema=_average(state, {"params": params, "batch_stats": batch_stats}, ema_decay),
            metrics=so_far.merge(metrics),
        )
        return new, {**metrics.compute(), "grad_norm": optax.tree.norm(grads)}

    every, split = replicated(mesh), sharded(mesh)
    return jax.jit(
        train_step,
        in_shardings=(every, every, split),
        out_shardings=every,
        donate_argnums=0,
        compiler_options=compiler_options(dtype),
    )


def make_eval_step(model: nn.Module, preprocessing: Preprocessing, dtype: Any, mesh: Mesh) -> EvalStep:
    """Builds the jitted (metrics so far, variables, data, indices int32 [N], mask bool [N]) -> metrics with this batch."""

    def eval_step(so_far: Metrics, variables: Variables, data: DeviceData, indices: jax.Array, mask: jax.Array) -> Metrics:
        images = preprocessing.normalize(data.images[indices] / jnp.float32(255))
        labels = data.labels[indices]
        logits: Any = model.apply(variables, images, train=False)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
        return so_far.merge(batch_metrics(losses, logits, labels, mask))

    every, split = replicated(mesh), sharded(mesh)
    return jax.jit(
        eval_step,
        in_shardings=(every, every, every, split, split),
        out_shardings=every,
        compiler_options=compiler_options(dtype),
    )


def _average(state: TrainState, new: Variables, decay: float | None) -> Variables | None:
    """Exponential moving average, short in the beginning so that it forgets the initial values: TensorFlow's num_updates."""
    if decay is None:
        return None
    rate = jnp.minimum(decay, (1.0 + state.step) / (10.0 + state.step))
    average: Variables = jax.tree.map(lambda old, x: rate * old + (1 - rate) * x, state.ema, new)
    return average

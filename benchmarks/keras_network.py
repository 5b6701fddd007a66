"""The same network and step in Keras on TensorFlow, as a graph and through XLA."""

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from benchmarks.plan import Activate, Conv, Dense, Dropout, Layer, MaxPool, Norm, Residual, Scale, Vector, layers_of
from benchmarks.workload import CLASSES, Answer, Workload
from cifar_flax.config.types import Activation, GlobalPool
from cifar_flax.optim import SGD, Adam

Step = Callable[[], object]

ACTIVATIONS = {
    Activation.LINEAR: keras.activations.linear,
    Activation.RELU: keras.activations.relu,
    Activation.ELU: keras.activations.elu,
    Activation.GELU: lambda x: keras.activations.gelu(x, approximate=False),
    Activation.SILU: keras.activations.silu,
    Activation.TANH: keras.activations.tanh,
    Activation.SIGMOID: keras.activations.sigmoid,
    Activation.HARD_SIGMOID: lambda x: keras.ops.clip(0.2 * x + 0.5, 0, 1),  # Keras 2's
}

# Our names of a layer's variables -> Keras'.
VARIABLES = {"kernel": "kernel", "bias": "bias", "mean": "moving_mean", "var": "moving_variance", "scale": "gamma"}


class Network:
    """A workload's network with its parameters loaded.

    Attributes:
      model: images [N, H, W, 3] to logits [N, CLASSES].
      inputs, targets: the workload's batch, float32, the labels as one-hot rows.
    """

    def __init__(self, workload: Workload, policy: str = "float32") -> None:
        self._workload = workload
        self._named: dict[str, Any] = {}
        keras.config.set_dtype_policy(policy)
        start = keras.Input(workload.images.shape[1:])
        logits = self._apply(layers_of(workload.config.model, CLASSES), start)
        self.model = keras.Model(start, keras.layers.Activation("linear", dtype="float32")(logits))
        for path, value in {**workload.params, **workload.batch_stats}.items():
            self._variable(path).assign(value)
        for path in workload.frozen:
            self._variable(path).trainable = False
        self.inputs = tf.constant(workload.inputs)
        self.targets = tf.one_hot(workload.labels, CLASSES)
        self._loss = keras.losses.CategoricalCrossentropy(
            from_logits=True, label_smoothing=workload.config.optim.label_smoothing
        )

    def answer(self) -> Answer:
        """Logits and gradients."""
        eval_logits = self.model(self.inputs, training=False)
        with tf.GradientTape() as tape:
            logits = self.model(self.inputs, training=True)
            loss = self._loss(self.targets, logits)
        trained = {path: self._variable(path) for path in self._workload.params if path not in self._workload.frozen}
        gradients = tape.gradient(loss, {path: variable.value for path, variable in trained.items()})
        return Answer(
            np.asarray(logits), np.asarray(eval_logits), {path: np.asarray(gradient) for path, gradient in gradients.items()}
        )

    def step(self, xla: bool) -> Step:
        """A function that makes one update and waits for it."""
        self.model.compile(self._optimizer(), self._loss, jit_compile=xla)

        def one() -> None:
            self.model.train_on_batch(self.inputs, self.targets)

        one()  # compiles
        return one

    def _optimizer(self) -> Any:
        optim = self._workload.config.optim
        if isinstance(optim, Adam):
            return keras.optimizers.Adam(optim.learning_rate, optim.b1, optim.b2, optim.eps)
        assert isinstance(optim, SGD)  # `common_recipe` leaves these two
        return keras.optimizers.SGD(optim.learning_rate, optim.momentum, optim.nesterov)

    def _apply(self, layers: tuple[Layer, ...], x: Any) -> Any:
        for layer in layers:
            if isinstance(layer, Residual):
                x = keras.layers.add([self._apply(layer.shortcut, x), self._apply(layer.layers, x)])
            else:
                x = self._build(layer)(x)
        return x

    def _build(self, layer: Layer) -> Callable[[Any], Any]:
        match layer:
            case Conv(name=name, features=features, size=size, padding=padding, bias=bias, stride=stride):
                pixels, how = (padding, "valid") if isinstance(padding, int) else (0, padding.lower())
                if stride == 1 and 2 * pixels == size - 1:
                    pixels, how = 0, "same"  # the same, and not in two steps
                conv = keras.layers.Conv2D(features, size, stride, padding=how, use_bias=bias)
                self._named[name] = conv
                return (lambda x: conv(keras.layers.ZeroPadding2D(pixels)(x))) if pixels else conv
            case Dense(name=name, features=features, bias=bias):
                self._named[name] = keras.layers.Dense(features, use_bias=bias)
                return self._named[name]
            case Norm(name=name, scale=scale, momentum=momentum, epsilon=epsilon):
                self._named[name] = keras.layers.BatchNormalization(momentum=momentum, epsilon=epsilon, scale=scale)
                return self._named[name]
            case Activate(function=function):
                return keras.layers.Activation(ACTIVATIONS[function])
            case MaxPool(window=window):
                return keras.layers.MaxPooling2D(window)
            case Dropout(rate=rate):
                return keras.layers.Dropout(rate)
            case Vector(how=how):
                return _vector(how)
            case Scale(factor=factor):
                return keras.layers.Rescaling(factor)
        raise TypeError(layer)

    def _variable(self, path: str) -> Any:
        name, _, kind = path.rpartition("/")
        layer = self._named[name]
        return (
            layer.beta
            if kind == "bias" and isinstance(layer, keras.layers.BatchNormalization)
            else getattr(layer, VARIABLES[kind])
        )


def answers(workload: Workload) -> dict[str, Answer]:
    """The answer of Keras to a workload without dropout, in float32."""
    return {"keras": Network(workload).answer()}


def steps(workload: Workload, bfloat16: bool = True) -> tuple[dict[str, Step], list[str]]:
    """Training steps as TensorFlow's graph and with XLA, as Keras compiles by default, in one dtype or both; and no remarks."""
    policies = {"keras": "float32"} | ({"keras_bf16": "mixed_bfloat16"} if bfloat16 else {})
    return {
        f"{name}_{how}": Network(workload, policy).step(xla)
        for name, policy in policies.items()
        for how, xla in (("graph", False), ("xla", True))
    }, []


def _vector(how: GlobalPool) -> Callable[[Any], Any]:
    mean, largest = keras.layers.GlobalAveragePooling2D(), keras.layers.GlobalMaxPooling2D()
    pooled: dict[GlobalPool, Callable[[Any], Any]] = {
        GlobalPool.FLATTEN: keras.layers.Flatten(),
        GlobalPool.MEAN: mean,
        GlobalPool.MAX: largest,
        GlobalPool.MAX_PLUS_MEAN: lambda x: keras.layers.add([largest(x), mean(x)]),
    }
    return pooled[how]

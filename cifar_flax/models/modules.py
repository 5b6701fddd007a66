"""Flax modules from specs: built, held to the contract of `ModelSpec`, initialized, described."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.errors import FlaxError
from flax.traverse_util import flatten_dict

from cifar_flax.config.imports import import_path
from cifar_flax.config.specs import ModelSpec
from cifar_flax.config.user_code import is_ours, place_of, raised, user_code
from cifar_flax.errors import CifarFlaxError, ConfigError
from cifar_flax.files.redact import reason
from cifar_flax.files.tables import format_table
from cifar_flax.runtime import compilation

Variables = Mapping[str, Any]  # "params", and "batch_stats" where there are running statistics
COLLECTIONS = {"params", "batch_stats"}


def create_model(spec: ModelSpec, num_classes: int, dtype: Any = jnp.float32) -> nn.Module:
    """Builds the module of a spec; call it as `model.apply(variables, images, train=...)`.

    Args:
      spec: the network and its settings.
      num_classes: width of the logits.
      dtype: of activations; parameters and statistics are float32 whatever it is.

    Raises:
      ConfigError: `build` returned something else, or a user's own raised an error.
    """
    with user_code("config.model", f"build() of {spec.name}", type(spec)):
        model = spec.build(num_classes, dtype)
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"config.model: build() of {spec.name} returned a {type(model).__name__}; expected a flax.linen.Module"
        )
    return model


def check_module(model: nn.Module, image_shape: tuple[int, int, int], num_classes: int) -> None:
    """Checks that a module does as the docstring of `ModelSpec` says, without computing anything.

    Args:
      model: from `create_model`.
      image_shape: (H, W, C).
      num_classes: width of the logits.

    Raises:
      ConfigError: it does not; says in which point.
    """
    images = jax.ShapeDtypeStruct((2, *image_shape), jnp.float32)

    def call(variables: Variables, images: jax.Array, train: bool) -> Any:
        rngs = {"dropout": jax.random.key(0)} if train else {}
        return model.apply(variables, images, train=train, rngs=rngs, mutable=["batch_stats"] if train else False)

    with _called(model, image_shape[:2], hint="; help(cifar_flax.ModelSpec) says how a module is called"):
        variables = variable_shapes(model, image_shape)
        if other := sorted(set(variables) - COLLECTIONS):
            raise ConfigError(f"config.model: has variables in {other}; expected none but in 'params' and 'batch_stats'")
        if "params" not in variables:
            raise ConfigError("config.model: has no parameters, so that there is nothing to train")
        for path, leaf in flatten_dict(dict(variables)).items():
            if leaf.dtype != jnp.float32 and (path[0] == "params" or jnp.issubdtype(leaf.dtype, jnp.floating)):
                raise ConfigError(
                    f"config.model: {'/'.join(path)} is {leaf.dtype}; expected float32, whatever the dtype of activations: "
                    "leave out `param_dtype`"
                )
        evaluated = jax.eval_shape(lambda variables, images: call(variables, images, False), variables, images)
        trained, updates = jax.eval_shape(lambda variables, images: call(variables, images, True), variables, images)
    for logits, train in ((evaluated, False), (trained, True)):
        if not isinstance(logits, jax.ShapeDtypeStruct):
            raise ConfigError(f"config.model: returns a {type(logits).__name__} with train={train}; expected logits alone")
        if logits.shape != (2, num_classes) or logits.dtype != jnp.float32:
            raise ConfigError(
                f"config.model: returns {logits.dtype} {list(logits.shape)} for 2 images with train={train}; "
                f"expected logits, float32 [2, {num_classes}]"
            )
    shapes = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), (updates.get("batch_stats", {}), variables))
    if shapes[0] != shapes[1].get("batch_stats", {}):
        raise ConfigError("config.model: training changes the names, shapes or dtypes of the 'batch_stats' that it began with")


def initialize(model: nn.Module, key: jax.Array, first_images: jax.Array) -> Variables:
    """Draws the initial variables.

    Args:
      model: from `create_model`.
      key: a PRNG key.
      first_images: float32 [N, H, W, C], normalised training images, for networks whose first layer is computed from data.

    Returns:
      {"params": ..., "batch_stats": ...}, float32; no "batch_stats" without BatchNorm.

    Raises:
      ConfigError: the images are too small for the network.
    """
    with _called(model, first_images.shape[1:3]):
        # Within jit the forward pass is left out, so that all images cost nothing where no layer asks for them.
        return model.init(key, first_images, train=False)


def variable_shapes(model: nn.Module, image_shape: tuple[int, int, int]) -> Variables:
    """The variables of a module for images of the shape (H, W, C), as shapes and dtypes: nothing is computed."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    return jax.eval_shape(lambda image: model.init(jax.random.key(0), image, train=False), image)


def check_sizes(model: nn.Module, image_shape: tuple[int, int, int], sizes: Mapping[str, int]) -> None:
    """Checks that a network takes images of other sizes with the same parameters, without computing anything.

    Args:
      model: from `create_model`.
      image_shape: (H, W, C) of the images that it is initialised with.
      sizes: {field of the config: pixels a side}.

    Raises:
      ConfigError: it does not; names the field.
    """
    if not sizes:
        return
    with _called(model, image_shape[:2]):
        expected = variable_shapes(model, image_shape)
    for field, size in sizes.items():
        with _called(model, (size, size), field):
            resized = variable_shapes(model, (size, size, image_shape[2]))
        if resized != expected:
            raise ConfigError(
                f"{field}: this network has other weights at {size}x{size} pixels than at {image_shape[0]}x{image_shape[1]}; "
                "those of cifar_flax are the same at every size with config.model.global_pool=mean, max or max_plus_mean"
            )


def count_parameters(params: Any) -> int:
    """Number of parameters in a tree of arrays, or of their shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(params))


def describe(model: nn.Module, image_shape: tuple[int, int, int]) -> str:
    """The table of layers: each call of a module, its output for one image [H, W, C], its own parameters; and the sums.

    Raises:
      ConfigError: the images are too small for the network.
    """
    calls: list[tuple[tuple[str, ...], str, str]] = []

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext) -> Any:
        place, module = len(calls), context.module
        output = call(*args, **kwargs)
        if context.method_name == "__call__" and module.path and isinstance(output, jax.Array):
            calls.insert(place, (tuple(module.path), type(module).__name__, "x".join(map(str, output.shape[1:]))))
        return output

    def init(image: jax.Array) -> Any:
        with nn.intercept_methods(record):
            return model.init(jax.random.key(0), image, train=False)

    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    with _called(model, image_shape[:2]):
        variables = jax.eval_shape(init, image)
    own = Counter[tuple[str, ...]]()
    for path, leaf in flatten_dict(variables["params"]).items():
        own[path[:-1]] += leaf.size
    forward = compilation.jit(lambda variables, image: model.apply(variables, image, train=False))
    operations = (forward.lower(variables, image).cost_analysis() or {}).get("flops", math.nan)  # not known to all backends
    rows = [("/".join(path), kind, shape, f"{own[path]:,}" if own[path] else "") for path, kind, shape in calls]
    total = ("all", type(model).__name__, "", f"{own.total():,}")
    table = format_table([("layer", "module", "output", "parameters"), *rows, total], right=(3,))
    return f"{table}\n{operations / 1e6:,.1f} million operations an image, forward"


@contextmanager
def _called(model: nn.Module, size: tuple[int, ...], field: str = "config.model", hint: str = "") -> Iterator[None]:
    """Turns an error of a module into a ConfigError that names field and image size."""
    cannot_take = f"{field}: this network cannot take {size[0]}x{size[1]} images"
    try:
        yield
    except (CifarFlaxError, MemoryError):
        raise
    except Exception as e:  # whatever a user's own module raises
        if is_ours(type(model)):
            if not isinstance(e, ValueError | TypeError | ZeroDivisionError | FlaxError):
                raise
            raise ConfigError(f"{cannot_take}: {reason(e)}") from e
        what = raised(import_path(type(model)), e)
        if field != "config.model":
            raise ConfigError(f"{cannot_take}: {what}") from e
        raise ConfigError(f"{field}: {what}{'' if place_of(e) else hint}") from e

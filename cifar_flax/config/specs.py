"""Specs: the sections of a config whose class is the user's choice, the network and the optimizer."""

import functools
import json
from dataclasses import MISSING, dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, TypeVar, cast

from annotated_types import Gt, Le
from pydantic import GetCoreSchemaHandler, TypeAdapter, ValidationError
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from cifar_flax.config.imports import import_object, import_path, is_import_path
from cifar_flax.config.registry import MODELS, OPTIMIZERS, Registry
from cifar_flax.config.types import ConfigBase, NonNegative, Positive, Probability, UnitIntervalOpen
from cifar_flax.config.user_code import user_code
from cifar_flax.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import flax.linen as nn
    import optax


class Spec(ConfigBase):
    """Base of `ModelSpec` and `OptimizerSpec`. config.json names the class of a spec by its import path.

    Attributes:
      _section: the field of `Config` that holds one.
      _registry: of the short names.
      _builder: the method that a subclass has to define.
    """

    __slots__ = ()

    _section: ClassVar[str]
    _registry: ClassVar[Registry[Any]]
    _builder: ClassVar[str]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """The schema of a field; one annotated with an abstract class takes its own class from the `type` in JSON."""
        if cls in (ModelSpec, OptimizerSpec):
            return core_schema.no_info_plain_validator_function(functools.partial(from_json_object, cls))
        return handler(source)

    @property
    def name(self) -> str:
        """The short name of the class, such as `convnet`; its import path where it has none."""
        return self._registry.name_of(type(self)) or import_path(type(self))

    def check(self) -> None:
        """Refuses values that do not go together; the type and range of each field are checked before it is called.

        Raises:
          ConfigError: the message begins with the field as seen from the spec, such as `blocks[0].paddings: ...`.
        """


S = TypeVar("S", bound=Spec)


@dataclass(slots=True)
class ModelSpec(Spec):
    """A network: a dataclass with a field for each of its settings, which `build` makes into a Flax module.

    A subclass in a file of your own needs no edit here: a config names it by import path. Fields have a type, a default and,
    with `Annotated[int, annotated_types.Ge(1)]`, a range; `--config.model.FIELD=VALUE` overrides one.

    The module that `build` returns is called as `module(x, train)`:
      x: float32 [N, H, W, C], normalised. The module casts it to the `dtype` that `build` was given.
      train: bool, given by name or position; whether dropout and the like are on.
      It returns logits, float32 [N, num_classes].
      Its variables are in the collections "params", of float32, and "batch_stats" (running statistics, of float32 or whole
      numbers, which it updates where `train` is true); its random numbers come from `make_rng("dropout")`. Initialisation may
      look at `x`: it is given training images.
    A module with statistics is frozen with its parameters if `use_running_average` is an attribute or an argument of its call,
    as with flax.linen.BatchNorm. Muon leaves a last layer called `logits` or `head` to Adam; a config names others in
    `config.optim.adam`. Reports show the input of the last layer with parameters as the features of an image.

    Attributes:
      initialized_from_data: patterns of parameters that initialisation computes from the training images, so that they may be
        frozen without ever having been trained.
    """

    _section: ClassVar[str] = "model"
    _registry: ClassVar[Registry[Any]] = MODELS
    _builder: ClassVar[str] = "build"

    initialized_from_data: ClassVar[tuple[str, ...]] = ()

    def build(self, num_classes: int, dtype: Any) -> "nn.Module":
        """Makes the module.

        Args:
          num_classes: width of the logits.
          dtype: of activations and matrix products, float32 or bfloat16; parameters and statistics are float32.
        """
        raise NotImplementedError


@dataclass(slots=True)
class GroupConfig(ConfigBase):
    """Settings of the parameters whose path, such as `block0_conv0/kernel`, matches a shell pattern."""

    pattern: str = "*"
    learning_rate: NonNegative = 1.0  # times the common rate
    weight_decay: NonNegative | None = None  # None: the common one


@dataclass(slots=True)
class OptimizerSpec(Spec):
    """Update rule, learning rate and loss settings: the fields that every optimizer has.

    A subclass adds the settings of its rule as fields, and `transform`. It may lie in a file of your own. Where its rule has
    weight decay, it calls it `weight_decay`, and applies it with `cifar_flax.optim.groups.decay_kernels`.

    Attributes:
      plateau_conflict: why `config.plateau`, which multiplies updates, does not go with the rule; empty where it does.
    """

    _section: ClassVar[str] = "optim"
    _registry: ClassVar[Registry[Any]] = OPTIMIZERS
    _builder: ClassVar[str] = "transform"

    plateau_conflict: ClassVar[str] = ""

    learning_rate: Positive = 1e-3  # the schedule's peak
    groups: tuple[GroupConfig, ...] = ()  # the first whose pattern matches a parameter holds
    freeze: tuple[str, ...] = ()  # patterns of parameters that stay as they are, BatchNorm's statistics with them
    sam_rho: NonNegative = 0.0  # sharpness-aware minimisation: how far up the slope the gradient is taken; 0 is off
    clip_norm: Positive | None = None  # largest global norm of the gradient
    label_smoothing: UnitIntervalOpen = 0.0
    ema_decay: UnitIntervalOpen | None = None  # of params and batch statistics; evaluation then uses them

    schedule: str = "constant"  # a registered name, or module:name of (spec, total_steps, steps_per_epoch) -> optax.Schedule
    warmup_epochs: NonNegative = 0.0  # linear, before the schedule starts
    initial_fraction: Probability = 0.0  # first rate / peak, of the warm-up (one_cycle has its own: 1 / 25)
    decay: NonNegative = 0.0  # inverse_time: per step
    decay_rate: Annotated[float, Gt(0), Le(1)] = 0.96  # exponential: factor per epoch; piecewise: factor per boundary
    boundaries: tuple[Positive, ...] = ()  # piecewise: epochs at which the rate falls
    final_fraction: Probability = 0.0  # cosine, linear: last rate / peak

    def transform(self, schedule: "optax.Schedule") -> "optax.GradientTransformation":
        """The transform from gradients to updates, without what is common to all: clipping, groups, freezing.

        Its update is called with extra arguments, and ends in `**extra_args` (see optax.GradientTransformationExtraArgs):
        `compute_dtype`, of the network's matrix products, and `value`, the loss of the batch, float32 [], by which
        optax.contrib.reduce_on_plateau and optax.polyak_sgd go. A rule that evaluates the loss itself, as a line search does,
        cannot be used: there is no `value_fn`. Updates are added to the parameters, and have their shapes; the state keeps the
        structure, shapes and dtypes that it begins with. Evaluation, selection and export take the parameters as they are, or
        their average by `ema_decay`: a rule whose weights to ship are computed from its state, such as
        optax.contrib.schedule_free, is scored and shipped at the point where it takes gradients.

        Args:
          schedule: the learning rate as a function of the number of updates already made.
        """
        raise NotImplementedError

    def check(self) -> None:
        """Refuses settings of groups and schedule that have no effect; an override begins with `OptimizerSpec.check(self)`."""
        import_object("cifar_flax.optim.optimizers:check_common", "optim")(self)  # a room above this one

    def check_parameters(self, shapes: "Mapping[str, tuple[int, ...]]") -> None:
        """Refuses a network that the rule does not fit.

        Args:
          shapes: of the parameters, by path, such as `block0_conv0/kernel`.

        Raises:
          ConfigError: the message begins with the field, such as `config.optim.groups: ...`.
        """


def specs_with(spec: Spec, field: str) -> list[str]:
    """Short names of the specs of the same kind that have a field of this name: where a setting belongs that `spec` lacks."""
    registry = spec._registry
    return [name for name in registry if field in {f.name for f in fields(registry.resolve(name, f"config.{spec._section}"))}]


def checked_class(base: type[S], candidate: Any, name: str) -> type[S]:
    """The candidate, if it is a usable spec derived from `base`.

    Raises:
      ConfigError: it is not.
    """
    field = f"config.{base._section}.type"
    if not isinstance(candidate, type) or not issubclass(candidate, base) or candidate is base:
        raise ConfigError(f"{field}: {name} is no {base.__name__}; expected a class derived from cifar_flax.{base.__name__}")
    if "__dataclass_fields__" not in vars(candidate):
        raise ConfigError(f"{field}: {name} is no dataclass; write @dataclass(slots=True) above it")
    if getattr(candidate, base._builder) is getattr(base, base._builder):
        raise ConfigError(f"{field}: {name} has no method {base._builder}; see help(cifar_flax.{base.__name__})")
    reserved = ("type", "name", "check", base._builder)
    names = [f.name for f in fields(candidate)]  # type: ignore[arg-type]  # a dataclass, as was checked
    if taken := [word for word in reserved if word in names]:
        raise ConfigError(f"{field}: {name} has a field called {taken[0]}, a word that specs use otherwise; rename it")
    return candidate


def type_path(cls: type[Spec]) -> str:
    """The import path by which config.json names the class.

    Raises:
      ConfigError: another process could not import it from there.
    """
    path = import_path(cls)
    if cls.__module__ == "__main__" or not is_import_path(path):
        raise ConfigError(
            f"config.{cls._section}: other commands cannot import {cls.__qualname__} from a script or a function; "
            "define it at the top level of a module of its own, such as my_models.py"
        )
    return path


def swap_class(spec: S, name: str) -> S:
    """A spec of another class, with the fields that all specs of its kind share taken over from `spec`.

    Args:
      spec: as it is; returned unchanged if its class is the one asked for.
      name: a short name, or an import path.

    Raises:
      ConfigError: there is no such class, a field of it has no default, or making one raises an error.
    """
    base: type[Any] = ModelSpec if isinstance(spec, ModelSpec) else OptimizerSpec
    field = f"config.{base._section}.name"
    new: type[S] = checked_class(base, base._registry.resolve(name, field), name)
    if new is type(spec):
        return spec
    common = {f.name: getattr(spec, f.name) for f in fields(base)}
    own = [f for f in fields(cast(Any, new)) if f.init and f.name not in common]
    if required := [f.name for f in own if f.default is MISSING and f.default_factory is MISSING]:
        raise ConfigError(f"{field}: {name} has no default for {', '.join(required)}; give it one, or set it in a config file")
    with user_code(field, name, new):
        return new(**common)


def from_json_object(base: type[S], values: Any) -> S:
    """Builds a spec from a JSON object whose `type` is the import path of a class derived from `base`.

    Raises:
      ValidationError: of the class, or of the fields.
    """
    if not isinstance(values, dict) or not isinstance(values.get("type"), str):
        raise _invalid("has no type; it is not of this version of cifar_flax", values)
    path = values["type"]
    try:
        cls = checked_class(base, import_object(path, "type"), path)
    except ConfigError as e:
        raise _invalid(str(e).partition(": ")[2], path, "type") from None
    text = json.dumps({name: value for name, value in values.items() if name != "type"})
    return _adapter(cast(Any, cls)).validate_json(text)


@functools.cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


def _invalid(message: str, value: Any, *location: str) -> ValidationError:
    error = PydanticCustomError("spec", "{message}", {"message": message})
    return ValidationError.from_exception_data("spec", [InitErrorDetails(type=error, loc=location, input=value)])

"""Open registries: what configs name by a short name, and users by an import path."""

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from cifar_flax.config.imports import import_object, is_import_path
from cifar_flax.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from cifar_flax.config.specs import ModelSpec, OptimizerSpec

T = TypeVar("T")


class Registry(Generic[T]):
    """Named parts of one kind: losses, augmentations, schedules, ...

    Attributes:
      kind: what they are, in the singular, for messages.
      home: the module that registers them, in a room above this one; imported when a part is asked for.
    """

    def __init__(self, kind: str, home: str) -> None:
        self.kind, self.home = kind, home
        self._registered: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """A decorator that enters a part under `name`; a name is taken once.

        Raises:
          ValueError: it is taken.
        """

        def enter(part: T) -> T:
            if name in self._registered:
                raise ValueError(f"there is a {self.kind} called {name!r} already")
            self._registered[name] = part
            return part

        return enter

    @property
    def _parts(self) -> dict[str, T]:
        importlib.import_module(self.home)
        return self._registered

    def __iter__(self) -> Iterator[str]:
        """The names, in the order in which they were registered."""
        return iter(self._parts)

    def name_of(self, part: T) -> str | None:
        """The name that a part is registered under; None where it is not."""
        return next((name for name, registered in self._parts.items() if registered is part), None)

    def resolve(self, name: str, field: str) -> T:
        """The part that a config names.

        Args:
          name: a registered name, or `module:name` of a user's own.
          field: of the config, for the message.

        Raises:
          ConfigError: there is no such part.
        """
        if name in self._parts:
            return self._parts[name]
        if is_import_path(name):
            return import_object(name, field)
        if "," in name and field.endswith("]"):  # an entry of a tuple, which the command line takes in Python's form
            several = tuple(part.strip() for part in name.split(","))
            raise ConfigError(f'{field}: there is no {self.kind} {name!r}; give several as "{several}", with the quotes')
        hint = did_you_mean(name, self._parts, ", or MODULE:NAME of your own")
        raise ConfigError(f"{field}: there is no {self.kind} {name!r}; {hint}")


MODELS: "Registry[type[ModelSpec]]" = Registry("model", "cifar_flax.models")
OPTIMIZERS: "Registry[type[OptimizerSpec]]" = Registry("optimizer", "cifar_flax.optim.optimizers")
SCHEDULES: Registry[Any] = Registry("schedule", "cifar_flax.optim.schedules")
LOSSES: Registry[Any] = Registry("loss", "cifar_flax.optim.losses")
AUGMENTATIONS: Registry[Any] = Registry("augmentation", "cifar_flax.augment.policy")
WRITERS: Registry[Any] = Registry("writer", "cifar_flax.training.writers")

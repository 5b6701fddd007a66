"""The space of a search: domains of config fields, and the config that a choice of values makes."""

import ast
import copy
import enum
import hashlib
import itertools
import math
import runpy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cifar_flax.config import Config
from cifar_flax.config.fields import with_values
from cifar_flax.config.files import find_file
from cifar_flax.config.recipe import BOOKKEEPING
from cifar_flax.config.serialize import flatten_config, to_dict
from cifar_flax.errors import ConfigError, UserError
from cifar_flax.files.installation import CONFIGS
from cifar_flax.files.redact import named_reason

SPACES = CONFIGS / "search"  # of the package, each named by itself
CHECKED_COMBINATIONS = 200  # a larger space is checked at about as many points; each takes milliseconds
COLUMNS, LAST_COLUMNS = ("rank", "trial", "state", "top1", "sd"), ("note", "run")  # of trials.csv, around the values
INSIDE = 0.381966  # share of a range at which a point within it is checked: one that is no whole number, as the ends may be

Values = dict[str, Any]


@dataclass(frozen=True)
class Choice:
    """One of a few values, each a number, a string, an enum of strings, a boolean or None."""

    values: tuple[Any, ...]

    def __post_init__(self) -> None:
        plain = tuple(value.value if isinstance(value, enum.Enum) else value for value in self.values)
        object.__setattr__(self, "values", plain)
        if not plain or not all(value is None or isinstance(value, str | int | float) for value in plain):
            raise UserError(f"{self}: expected numbers, strings, booleans or None; for anything else name it and use apply()")


@dataclass(frozen=True)
class IntRange:
    """Every `step`-th integer from `low` to `high`, both included."""

    low: int
    high: int
    step: int = 1

    def __post_init__(self) -> None:
        whole = all(isinstance(value, int) for value in (self.low, self.high, self.step))
        if not whole or self.step < 1 or self.low >= self.high or (self.high - self.low) % self.step:
            raise UserError(f"{self}: expected whole numbers, low < high, a whole number of steps apart")


@dataclass(frozen=True)
class Uniform:
    """Any number from `low` to `high`."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not -math.inf < self.low < self.high < math.inf:
            raise UserError(f"{self}: expected low < high")


@dataclass(frozen=True)
class LogUniform:
    """Any number from `low` to `high`, uniform in its logarithm: for values that matter by their order of magnitude."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high < math.inf:
            raise UserError(f"{self}: expected 0 < low < high")


Domain = Choice | IntRange | Uniform | LogUniform


@dataclass(frozen=True)
class Space:
    """A space file.

    Attributes:
      path: the file.
      domains: by config path, such as `optim.learning_rate`, or by a name that `apply` understands.
      apply: the file's `apply(config, values)`, which makes the changes that no path can express, and removes their values from
        `values`; None if the file has no such function.
    """

    path: Path
    domains: dict[str, Domain]
    apply: Callable[[Config, Values], None] | None

    @classmethod
    def load(cls, path: Path) -> "Space":
        """Runs the `get_space()` of a file, or of the one in configs/search that a bare name stands for.

        Raises:
          UserError: there is no such file, or it does not give domains by name.
        """
        path = find_file("space", f"--space={path}", str(path), SPACES)
        try:
            namespace = runpy.run_path(str(path))
            domains = dict(namespace["get_space"]())
        except UserError as e:
            raise UserError(f"--space={path}: {e}") from None
        except Exception as e:  # whatever a user's own file raises
            raise UserError(f"--space={path}: {named_reason(e)}") from e
        for name, domain in domains.items():
            if not isinstance(domain, Domain):
                raise UserError(f"--space={path}: {name}: expected Choice, IntRange, Uniform or LogUniform, not {domain!r}")
            if name in (*COLUMNS, *LAST_COLUMNS):
                raise UserError(f"--space={path}: {name}: is the name of a column of trials.csv; choose another")
        if not domains:
            raise UserError(f"--space={path}: get_space() names nothing to vary")
        return cls(path, domains, namespace.get("apply"))

    def configure(self, base: Config, values: Values) -> Config:
        """The config that results from `base` with one value for each domain.

        Raises:
          ConfigError: a name is no config path, the config refuses a value, or it asks for several seeds.
          UserError: the file's `apply` failed.
        """
        config, paths = copy.deepcopy(base), dict(values)
        try:
            if self.apply is not None:
                self.apply(config, paths)
            config = with_values(config, paths)
            if config.train.num_seeds > 1:
                raise ConfigError(f"config.train.num_seeds: {config.train.num_seeds}, but a trial trains one seed; set it to 1")
            return config
        except UserError as e:
            hint = "; IntRange is for whole numbers" if "valid integer" in str(e) else ""
            raise ConfigError(f"{e}{hint} (--space={self.path} at {describe(values)})") from None
        except Exception as e:  # raised by the user's apply()
            raise UserError(f"--space={self.path}: apply: {named_reason(e)} (at {describe(values)})") from e

    def check(self, base: Config, folds: int | None) -> None:
        """Configures combinations of all choices, of the ends of all ranges, and of a point within those of any number.

        Args:
          base: as in `configure`.
          folds: those of the search; without them each config needs validation images.

        Raises:
          UserError: one of them is refused, as by `configure`, or has no validation images.
        """
        for values in _combinations({name: _extremes(d) for name, d in self.domains.items()}, CHECKED_COMBINATIONS):
            config = self.configure(base, values)
            if not (folds or config.data.validates):
                raise ConfigError(
                    "config.data.validation_fraction: a search chooses by validation top-1; set it above 0, or give --folds "
                    f"(--space={self.path} at {describe(values)})"
                )

    def example(self) -> Values:
        """The first values of all choices and the lower ends of all ranges."""
        return {name: _extremes(domain)[0] for name, domain in self.domains.items()}

    def grid(self) -> list[Values]:
        """All combinations, the last domain's values changing fastest.

        Raises:
          UserError: a domain has too many values to list.
        """
        lists: dict[str, Sequence[Any]] = {}
        for name, domain in self.domains.items():
            if isinstance(domain, Uniform | LogUniform):
                raise UserError(f"--space={self.path}: {name} is {domain}; --strategy=grid needs Choice or IntRange")
            lists[name] = domain.values if isinstance(domain, Choice) else range(domain.low, domain.high + 1, domain.step)
        return list(_combinations(lists))

    def fingerprint(self) -> dict[str, str]:
        """{name: value} that two equal spaces have in common, for comparing searches."""
        parts = {f"space {name}": str(domain) for name, domain in self.domains.items()}
        parts["order of the space"] = ", ".join(self.domains)  # in which a grid counts and values are drawn
        if self.apply is not None:
            code = ast.unparse(ast.parse(self.path.read_bytes()))  # with all that apply() may call, and without comments
            parts["space apply()"] = hashlib.sha256(code.encode()).hexdigest()[:8]
        return parts


def fingerprint(base: Config, folds: int | None) -> dict[str, str]:
    """{name: value} of the config fields that bear on the results, and of the folds, for comparing searches."""
    parts = {path: str(value) for path, value in flatten_config(to_dict(base))}
    kept = {path: value for path, value in parts.items() if not path.startswith(BOOKKEEPING)}
    return {**kept, "folds": str(folds)}


def describe(values: Values) -> str:
    """The values in one line, with numbers shortened to four digits."""
    return ", ".join(f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}" for name, value in values.items())


def _extremes(domain: Domain) -> Sequence[Any]:
    if isinstance(domain, Choice):
        return domain.values
    within = () if isinstance(domain, IntRange) else (domain.low + INSIDE * (domain.high - domain.low),)
    return domain.low, domain.high, *within


def _combinations(lists: Mapping[str, Sequence[Any]], most: float = math.inf) -> Iterator[Values]:
    """Yields all combinations, or, of more than `most`, about so many in which every single value occurs."""
    if math.prod(map(len, lists.values())) <= most:
        yield from (dict(zip(lists, values, strict=True)) for values in itertools.product(*lists.values()))
        return
    for i in range(max(map(len, lists.values()))):
        yield {name: values[i % len(values)] for name, values in lists.items()}
    rng = np.random.default_rng(0)
    for _ in range(int(most)):
        yield {name: values[int(rng.integers(len(values)))] for name, values in lists.items()}

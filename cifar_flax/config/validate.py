"""Checks of a config beyond the type and range of each field."""

import re
from fnmatch import fnmatchcase

from cifar_flax.config.imports import is_import_path
from cifar_flax.config.registry import AUGMENTATIONS, LOSSES, WRITERS
from cifar_flax.config.schema import Config, TrainConfig
from cifar_flax.config.specs import Spec
from cifar_flax.config.types import SEEDS, Balance
from cifar_flax.config.user_code import user_code
from cifar_flax.errors import ConfigError

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")


def validate(config: Config) -> None:
    """Checks how fields go together; `serialize.from_dict` has checked each field against its annotation.

    Raises:
      ConfigError: names the field, its value and what was expected.
    """
    _check_paths(config)
    _check_spec(config.model)
    _check_spec(config.optim)
    _check_names(config)
    _check_resolutions(config.train)
    data, augment = config.data, config.augment
    if config.seed + config.train.num_seeds > SEEDS:
        raise ConfigError(
            f"config.train.num_seeds: {config.train.num_seeds} seeds from {config.seed} on end beyond {SEEDS - 1}, the last; "
            "set config.seed lower"
        )
    if data.folds is not None and data.fold >= data.folds:
        raise ConfigError(f"config.data.fold: {data.fold} is not one of the {data.folds} folds; they count from 0")
    _check_effective(config)
    if (data.class_weights, data.sampling) == (Balance.BALANCED, Balance.BALANCED):
        raise ConfigError(
            "config.data.class_weights: balances the classes a second time, where config.data.sampling=balanced does already; "
            "set one of them"
        )
    if augment.alternating_flip and not augment.flip:
        raise ConfigError("config.augment.alternating_flip: needs config.augment.flip")
    for name, section in (("plateau", config.plateau), ("early_stopping", config.early_stopping)):
        if section.patience and not data.validates:
            raise ConfigError(f"config.{name}: needs a validation split; set config.data.validation_fraction above 0")
    _check_freezing(config)
    if config.plateau.patience and config.optim.plateau_conflict:
        raise ConfigError(f"config.plateau: {config.optim.plateau_conflict}; use a falling --config.optim.schedule")


def _check_paths(config: Config) -> None:
    """Refuses paths that would write lines of their own into messages: a config may come with somebody else's weights."""
    train = config.train
    for field, path in (
        ("data.name", config.data.name),
        ("train.init_from", train.init_from),
        ("train.teacher", train.teacher),
    ):
        if CONTROL.search(path):
            raise ConfigError(f"config.{field}: {path!a} holds control characters; rename what it names")


def _check_spec(spec: Spec) -> None:
    with user_code(f"config.{spec._section}", f"check() of {spec.name}", type(spec)):
        try:
            spec.check()
        except ConfigError as e:
            raise ConfigError(f"config.{spec._section}.{e}") from None


def _check_names(config: Config) -> None:
    """Looks up what the config names, so that a misspelt name is refused before there is anything to train."""
    named = [(LOSSES, config.loss, "config.loss")]
    named += [(AUGMENTATIONS, name, f"config.augment.custom[{i}]") for i, name in enumerate(config.augment.custom)]
    named += [
        (WRITERS, name, f"config.log.writers[{i}]") for i, name in enumerate(config.log.writers) if not is_import_path(name)
    ]
    for registry, name, field in named:
        if not callable(registry.resolve(name, field)):
            raise ConfigError(f"{field}: {name} is no function")
    writers = config.log.writers
    if twice := [name for i, name in enumerate(writers) if name in writers[:i]]:
        raise ConfigError(f"config.log.writers: names {twice[0]} twice; each writer gets all metrics once")


def _check_effective(config: Config) -> None:
    """Refuses fields that have no effect without another one, which was forgotten."""
    train, default = config.train, TrainConfig()
    if config.data.folds is None and config.data.fold:
        raise ConfigError(
            f"config.data.fold: {config.data.fold} has no effect without config.data.folds; "
            "say of how many it is one, as in --config.data.folds=5"
        )
    for name in ("teacher_weight", "teacher_temperature"):
        if not train.teacher and getattr(train, name) != getattr(default, name):
            raise ConfigError(
                f"config.train.{name}: {getattr(train, name)} has no effect without config.train.teacher; "
                "name a teacher: --config.train.teacher=RUN"
            )


def _check_freezing(config: Config) -> None:
    computed = config.model.initialized_from_data
    random = [pattern for pattern in config.optim.freeze if not any(fnmatchcase(pattern, other) for other in computed)]
    if random and not config.train.init_from:
        raise ConfigError(
            f"config.optim.freeze: {config.optim.freeze!r} would keep random parameters as they are; "
            "name a run with trained ones: --config.train.init_from=RUN"
        )


def _check_resolutions(train: TrainConfig) -> None:
    ends = [resolution.until for resolution in train.resolutions]
    if sorted(set(ends)) != ends:
        raise ConfigError(f"config.train.resolutions: expected rising shares in `until`, not {ends}")

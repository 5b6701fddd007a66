"""What a config must hold beyond the type and range of each field."""

from cifar_flax.config.schema import Config, ModelConfig, OptimConfig, TrainConfig
from cifar_flax.config.types import Architecture, Optimizer, Schedule
from cifar_flax.errors import ConfigError

# The schedules in which a field has an effect.
SCHEDULES_OF = {
    "decay": (Schedule.INVERSE_TIME,),
    "decay_rate": (Schedule.EXPONENTIAL, Schedule.PIECEWISE),
    "boundaries": (Schedule.PIECEWISE,),
    "final_fraction": (Schedule.COSINE, Schedule.LINEAR),
}
MADE_FROM_DATA = "whitening/"  # parameters that are worth freezing without having been trained


def validate(config: Config) -> None:
    """Checks what crosses fields; each field by itself is checked against its annotation by `config_file.from_dict`.

    Raises:
      UserError: names the field, its value and what was expected.
    """
    _validate_model(config.model)
    _validate_resolutions(config.train)
    data, augment, optim = config.data, config.augment, config.optim
    if data.folds is not None and data.fold >= data.folds:
        raise ConfigError(f"config.data.fold: {data.fold} is not one of the {data.folds} folds; they count from 0")
    if augment.alternating_flip and not augment.flip:
        raise ConfigError("config.augment.alternating_flip: needs config.augment.flip")
    for name, section in (("plateau", config.plateau), ("early_stopping", config.early_stopping)):
        if section.patience and data.folds is None and data.validation_fraction == 0:
            raise ConfigError(f"config.{name}: needs a validation split; set config.data.validation_fraction above 0")
    _validate_optim(optim)
    _validate_schedule(optim)
    if not config.train.init_from and any(not pattern.startswith(MADE_FROM_DATA) for pattern in optim.freeze):
        raise ConfigError(
            f"config.optim.freeze: {optim.freeze!r} would keep random parameters as they are; "
            "say with --config.train.init_from=RUN whose to take over"
        )
    if config.plateau.patience and optim.name is Optimizer.MUON_SGD:
        raise ConfigError(
            "config.plateau: muon_sgd brings kernels to their norm with every update, and would not with a part of it; "
            "use a falling --config.optim.schedule"
        )


def _validate_model(model: ModelConfig) -> None:
    for name, owner in (("blocks", Architecture.CONVNET), ("dense", Architecture.CONVNET), ("stages", Architecture.SPEEDNET)):
        if getattr(model, name) and model.name is not owner:
            raise ConfigError(f"config.model.{name}: a {model.name} has none; they are of a {owner}")
    for i, block in enumerate(model.blocks):
        for name in ("kernel_sizes", "paddings", "activations"):
            given, wanted = len(getattr(block, name)), len(block.features)
            if given not in (1, wanted) and not (name == "activations" and given == 0):
                raise ConfigError(
                    f"config.model.blocks[{i}].{name}: {given} entries for {wanted} convolutions; give 1 or {wanted}"
                )
    for i, stage in enumerate(model.stages):
        given, wanted = len(stage.branch_kernel_sizes), len(stage.branch_features)
        if given != wanted:
            raise ConfigError(f"config.model.stages[{i}].branch_kernel_sizes: {given} entries for {wanted} convolutions")
        if stage.residual and stage.branch_features[-1:] != (stage.features,):
            raise ConfigError(
                f"config.model.stages[{i}].branch_features: a residual branch ends with as many channels as it begins with, "
                f"{stage.features}"
            )
    if len(model.resnet.features) != len(model.resnet.blocks):
        raise ConfigError("config.model.resnet: features and blocks have one entry a stage each")


def _validate_resolutions(train: TrainConfig) -> None:
    ends = [resolution.until for resolution in train.resolutions]
    if sorted(set(ends)) != ends:
        raise ConfigError(f"config.train.resolutions: expected rising shares in `until`, not {ends}")


def _validate_optim(optim: OptimConfig) -> None:
    with_momentum = (Optimizer.SGD, Optimizer.RMSPROP, Optimizer.MUON, Optimizer.MUON_SGD)
    if optim.momentum and optim.name not in with_momentum:
        raise ConfigError(f"config.optim.momentum: {optim.name} has none; expected one of {', '.join(with_momentum)}")
    if optim.nesterov and not optim.momentum and optim.name is not Optimizer.MUON:
        raise ConfigError("config.optim.nesterov: needs config.optim.momentum above 0")
    if optim.nesterov and optim.name is Optimizer.RMSPROP:
        raise ConfigError("config.optim.nesterov: rmsprop has none; expected sgd or muon")
    decaying = (Optimizer.ADAMW, Optimizer.LION, Optimizer.MUON, Optimizer.MUON_SGD, Optimizer.SGD)
    if (optim.weight_decay or any(group.weight_decay for group in optim.groups)) and optim.name not in decaying:
        hint = "use --config.optim.name=adamw" if optim.name is Optimizer.ADAM else f"expected one of {', '.join(decaying)}"
        raise ConfigError(f"config.optim.weight_decay: {optim.name} has none; {hint}")


def _validate_schedule(optim: OptimConfig) -> None:
    default = OptimConfig()
    for name, schedules in SCHEDULES_OF.items():
        value, unused = getattr(optim, name), getattr(default, name)
        if value != unused and optim.schedule not in schedules:
            raise ConfigError(
                f"config.optim.{name}: {value} has no effect with schedule {optim.schedule}; set it to {unused}, "
                f"or --config.optim.schedule={' or '.join(schedules)}"
            )
    if optim.initial_fraction and (not optim.warmup_epochs or optim.schedule is Schedule.ONE_CYCLE):
        raise ConfigError(
            f"config.optim.initial_fraction: {optim.initial_fraction} has no effect without config.optim.warmup_epochs, "
            "nor with schedule one_cycle; set it to 0.0"
        )
    rising = (optim.warmup_epochs, *optim.boundaries)
    if optim.schedule is Schedule.PIECEWISE and tuple(sorted(set(rising))) != rising:
        raise ConfigError(f"config.optim.boundaries: expected rising epochs after warm-up, not {optim.boundaries}")

"""Stochastic gradient descent."""

from dataclasses import dataclass

import optax

from cifar_flax.config.specs import OptimizerSpec
from cifar_flax.config.types import NonNegative, UnitIntervalOpen
from cifar_flax.errors import ConfigError
from cifar_flax.optim.groups import decay_kernels


@dataclass(slots=True)
class SGD(OptimizerSpec):
    """SGD as in PyTorch: the gradient of the L2 penalty joins that of the loss, momentum is not damped."""

    momentum: UnitIntervalOpen = 0.0
    nesterov: bool = False
    weight_decay: NonNegative = 0.0  # kernels only

    def transform(self, schedule: optax.Schedule) -> optax.GradientTransformation:
        """SGD at the rates of `schedule`."""
        return optax.chain(decay_kernels(self, self.weight_decay), optax.sgd(schedule, self.momentum or None, self.nesterov))

    def check(self) -> None:
        """Refuses Nesterov's momentum without momentum."""
        OptimizerSpec.check(self)
        if self.nesterov and not self.momentum:
            raise ConfigError("nesterov: needs config.optim.momentum above 0")

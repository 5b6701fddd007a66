"""The form of programs for accelerators, run on the CPU: many steps a dispatch, sums and gradients as autodiff has them."""

import jax
import numpy as np
import pytest

from benchmarks import tiny
from cifar_flax.config import Dtype
from cifar_flax.config.serialize import validated
from cifar_flax.runtime import compilation
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records


@pytest.mark.slow
@pytest.mark.parametrize("name", ["quickstart", "resnet18", "fast:published"])
def test_the_form_for_accelerators_trains_to_the_same_weights(name, tmp_path, monkeypatch):
    config = tiny.get_config(name)
    config.train.epochs, config.train.dtype, config.log.every_steps = 2, Dtype.FLOAT32, 1
    config.checkpoint.every_steps = None
    on_cpu = train(validated(config), tmp_path / "cpu")

    options = compilation.compiler_options()
    with monkeypatch.context() as patch:
        patch.setattr(jax, "default_backend", lambda: "gpu")
        patch.setattr(compilation, "compiler_options", lambda *_: options)
        on_gpu = train(validated(config), tmp_path / "gpu")

    for cpu, gpu in zip(jax.tree.leaves(on_cpu.eval_variables), jax.tree.leaves(on_gpu.eval_variables), strict=True):
        np.testing.assert_allclose(cpu, gpu, rtol=1e-2, atol=2e-3)  # rounding adds up over the steps
    losses = [[record["loss"] for record in read_records(tmp_path / folder) if "loss" in record] for folder in ("cpu", "gpu")]
    assert len(losses[0]) == int(on_cpu.step)
    np.testing.assert_allclose(*losses, rtol=1e-2)

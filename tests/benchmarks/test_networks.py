"""The networks of the other frameworks are ours."""

import importlib.util
import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import jax
import numpy as np
import pytest

from benchmarks import jax_network
from benchmarks.workers import ON_CPU, Worker
from benchmarks.workload import TOLERANCE, check_agreement
from cifar_flax.models import ResNet

pytestmark = pytest.mark.usefixtures("unoptimized")
NO_TORCH = importlib.util.find_spec("torch") is None
needs_torch = pytest.mark.skipif(NO_TORCH, reason="PyTorch is not installed: pip install -e '.[bench]'")
needs_keras = pytest.mark.skipif(importlib.util.find_spec("keras") is None, reason="Keras is not installed: the bench extra")


@pytest.fixture(
    scope="module",
    params=[
        "tiny_convnet",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("tiny_speednet", "tiny_resnet", "tiny_wide_resnet")),
    ],
)
def workload(request):
    return jax_network.draw(request.getfixturevalue(request.param), 4)


@pytest.fixture(scope="module")
def answers(workload):
    return jax_network.answers(workload.without_dropout())


def test_flax_own_layers_are_the_same_network(answers):
    check_agreement("plain", [answers["ours"]], [answers["plain_jit"]])
    assert not np.array_equal(answers["ours"].logits, answers["ours"].eval_logits)  # BatchNorm has both its ways


def test_flax_own_layers_are_none_of_ours(workload):
    def program():
        model = jax_network.create_model(workload.config.model, 100, np.float32)
        variables = jax_network._variables(workload)
        return str(jax.make_jaxpr(lambda x: model.apply(variables, x, train=False))(workload.inputs))

    assert isinstance(workload.config.model, ResNet) or "custom_vjp" in program()  # a ResNet has none without a gradient
    with jax_network.plain_layers():
        plain = program()
    assert "custom_vjp" not in plain
    assert isinstance(workload.config.model, ResNet) or "reduce_window_max" in plain


@needs_torch
def test_torch_agrees(workload, answers):
    from benchmarks import torch_network

    theirs = torch_network.answers(workload.without_dropout())
    assert 0 < check_agreement("torch", [answers["ours"]], [theirs["torch"]]) < TOLERANCE


@needs_torch
def test_a_step_of_torch_trains_what_is_not_frozen(workload):
    import torch

    from benchmarks import torch_network

    network = torch_network.Network(workload)
    before = {path: p.detach().clone() for path, p in network.parameters.items()}
    network.step(False, torch.bfloat16)
    changed = {path for path, p in network.parameters.items() if not torch.equal(p, before[path])}
    assert changed == workload.params.keys() - workload.frozen


@pytest.fixture(scope="module")
def keras():
    with Worker("keras_network") as worker:
        yield worker


@needs_keras
@pytest.mark.slow
def test_keras_agrees(workload, answers, keras):
    theirs = keras.call("answers", workload.without_dropout())
    assert 0 < check_agreement("keras", [answers["ours"]], [theirs["keras"]]) < TOLERANCE


def steps_of_keras(workload):
    """The names of the steps with whether each parameter is changed by them, and the names without bfloat16."""
    from benchmarks import keras_network

    networks = []

    class Recorded(keras_network.Network):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.before = [np.array(variable) for variable in self.model.trainable_variables]
            networks.append(self)

    keras_network.Network = Recorded
    steps, _ = keras_network.steps(workload)
    for step in steps.values():
        step()
    changed = [
        [not np.array_equal(*pair) for pair in zip(network.before, network.model.trainable_variables, strict=True)]
        for network in networks
    ]
    return dict(zip(steps, changed, strict=True)), list(keras_network.steps(workload, False)[0])


@needs_keras
@pytest.mark.slow
def test_every_step_of_keras_trains_all_parameters(tiny_convnet, monkeypatch):
    for name, value in ON_CPU.items():
        monkeypatch.setenv(name, value)
    workload = jax_network.draw(tiny_convnet, 4)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as process:
        changed, in_float32 = process.submit(steps_of_keras, workload).result()
    assert list(changed) == ["keras_graph", "keras_xla", "keras_bf16_graph", "keras_bf16_xla"]
    assert all(parameters == [True] * len(workload.params) for parameters in changed.values()), changed
    assert in_float32 == ["keras_graph", "keras_xla"]


@needs_torch
@pytest.mark.slow
def test_every_step_of_torch_runs(workload):
    with Worker("torch_network") as worker:
        names, remarks = worker.build(workload)
        assert {"torch_eager", "torch_bf16_eager", "matrix_product_torch"} <= set(names)
        assert len(names) == 5 or "was left out" in remarks[0]
        assert all(worker.time_step(name, 1) > 0 for name in names)
        assert not any("bf16" in name for name in worker.build(workload, False)[0])

import ast
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.runtime import compilation
from tests.conftest import ROOT
from tests.helpers.compilation_counter import CompilationCounter

UNCHECKED = {"jit", "pmap", "pjit"}  # of jax and of flax.linen


@pytest.mark.parametrize(("dtype", "tolerance"), [(jnp.float32, 1e-5), (jnp.bfloat16, 2e-2)])
@pytest.mark.parametrize("axis", [None, 0, 1])
def test_a_product_with_a_constant_matrix_is_right(dtype, tolerance, axis):
    """By default, jaxlib 0.12.0 gives NaN, or is off by 1e30 (float32)."""
    embeddings, scale = np.random.default_rng(0).normal(size=(1000, 128)), 0.7

    def product(e, c, numpy):
        return (numpy.dot(e, numpy.broadcast_to(c, (128, 128))) * e).sum(axis)

    arguments = jnp.asarray(embeddings, dtype), jnp.asarray(scale, dtype)
    result = compilation.jit(lambda e, c: product(e, c, jnp))(*arguments)
    expected = product(*(np.asarray(x, np.float64) for x in arguments), np)
    np.testing.assert_allclose(np.asarray(result, np.float64), expected, atol=tolerance * np.abs(expected).max())


def test_a_vmapped_product_of_matrix_and_vector_is_right():
    """jax-ml/jax#39103: jaxlib 0.10.2 gives 1071645696."""
    i = jnp.arange(32_769, dtype=jnp.float32)
    rows, matrix = jnp.stack((i, jnp.zeros_like(i), jnp.zeros_like(i)), axis=1), jnp.eye(3)
    squares = compilation.jit(jax.vmap(lambda row: jnp.sum((matrix @ row) ** 2)))(rows)
    assert float(squares[-1]) == 1073741824


def test_options_that_this_jaxlib_does_not_know_are_left_out_with_a_warning(caplog):
    assert compilation.supported({"xla_cpu_no_such_option": True}, "slow") == {}
    assert "this jaxlib does not know xla_cpu_no_such_option; programs run without, slow: " in caplog.text
    assert compilation.supported(compilation.CPU_OPTIONS, "slow") == compilation.CPU_OPTIONS


def test_what_this_jaxlib_knows_may_be_asked_for_while_a_program_is_traced():
    def traced(x):
        assert compilation.supported(compilation.CPU_OPTIONS, "slow") == compilation.CPU_OPTIONS
        return x

    assert jax.jit(traced)(1) == 1


def test_nothing_in_the_package_compiles_by_another_way():
    actual = []
    for path in sorted((ROOT / "cifar_flax").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(("jax", "flax")):
                actual += [(path.name, alias.name) for alias in node.names if alias.name in UNCHECKED]
            if isinstance(node, ast.Attribute) and node.attr in UNCHECKED and ast.unparse(node.value) in ("jax", "nn"):
                actual.append((path.name, node.attr))
    assert actual == [("compilation.py", "jit")] * 2, "use runtime.compilation.jit"


def test_programs_are_counted_until_the_counter_is_closed():
    with CompilationCounter() as counter:
        first, second = (compilation.jit(lambda x, k=k: x * k + 0.123)(np.float32(1)) for k in (3, 4))
        assert counter.compiled + counter.loaded == 2
    compilation.jit(lambda x: x * first * second)(np.float32(1))
    assert counter.compiled + counter.loaded == 2


@pytest.mark.parametrize(
    ("capability", "fast"), [("7.5", False), ("8.0", True), ("12.0", True), ("gfx90a", True), (None, True)]
)
def test_bfloat16_is_fast_on_accelerators_but_for_gpus_before_ampere(monkeypatch, capability, fast):
    device = SimpleNamespace() if capability is None else SimpleNamespace(compute_capability=capability)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(jax, "devices", lambda: [device])
    assert compilation.multiplies_bfloat16_fast() == fast

import jax.numpy as jnp
import pytest

from cifar_flax.config import Dtype
from cifar_flax.runtime import devices


@pytest.mark.parametrize("fast", [False, True])
def test_the_dtype_is_the_fastest_here_unless_it_is_named(fast, monkeypatch):
    monkeypatch.setattr(devices, "multiplies_bfloat16_fast", lambda: fast)
    fastest = jnp.bfloat16 if fast else jnp.float32
    assert devices.compute_dtype(Dtype.AUTO) == fastest
    assert devices.compute_dtype(Dtype.FLOAT32) == devices.inference_dtype(Dtype.FLOAT32) == jnp.float32
    assert devices.compute_dtype(Dtype.BFLOAT16) == jnp.bfloat16  # a run keeps what it began with
    assert devices.inference_dtype(Dtype.AUTO) == devices.inference_dtype(Dtype.BFLOAT16) == fastest

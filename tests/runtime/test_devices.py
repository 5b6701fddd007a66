import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.config import Dtype
from cifar_flax.errors import UserError
from cifar_flax.runtime import devices
from tests.conftest import tiny_split


def test_a_set_that_does_not_fit_is_refused_with_both_sizes(monkeypatch):
    monkeypatch.setattr(devices, "device_memory", lambda: 100_000)
    with pytest.raises(UserError, match=r"the images take 0\.0 GiB, more than half of the 0\.0 GiB of a device"):
        devices.put_dataset(tiny_split(320, 0), devices.data_parallel_mesh())


def test_images_lie_on_the_device_as_bytes():
    data = devices.put_dataset(tiny_split(320, 0), devices.data_parallel_mesh())
    assert data.images.dtype == jnp.uint8
    assert data.images.sharding.is_fully_replicated
    np.testing.assert_array_equal(data.images, tiny_split(320, 0).images)


@pytest.mark.parametrize("fast", [False, True])
def test_the_dtype_is_the_fastest_here_unless_it_is_named(fast, monkeypatch):
    monkeypatch.setattr(devices, "multiplies_bfloat16_fast", lambda: fast)
    fastest = jnp.bfloat16 if fast else jnp.float32
    assert devices.compute_dtype(Dtype.AUTO) == fastest
    assert devices.compute_dtype(Dtype.FLOAT32) == devices.inference_dtype(Dtype.FLOAT32) == jnp.float32
    assert devices.compute_dtype(Dtype.BFLOAT16) == jnp.bfloat16  # a run keeps what it began with
    assert devices.inference_dtype(Dtype.AUTO) == devices.inference_dtype(Dtype.BFLOAT16) == fastest

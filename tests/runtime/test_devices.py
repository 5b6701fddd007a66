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


def test_the_dtype_follows_the_backend_unless_it_is_named():
    assert devices.compute_dtype(Dtype.AUTO) == jnp.float32  # tests run on a CPU
    assert devices.compute_dtype(Dtype.BFLOAT16) == jnp.bfloat16

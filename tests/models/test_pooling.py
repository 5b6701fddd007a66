import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.models.pooling import max_pool


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (1, 7, 9, 2)])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_max_pool_and_its_gradient_equal_reduce_window(shape, window, dtype):
    x = jnp.asarray(np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape), dtype)  # no two equal below 256

    def theirs(x):
        return nn.max_pool(x, (window, window), (window, window))

    np.testing.assert_array_equal(max_pool(x, window), theirs(x))
    ours, other = (jax.grad(lambda x, f=f: (f(x) ** 3).sum())(x) for f in (lambda x: max_pool(x, window), theirs))
    np.testing.assert_allclose(ours, other, rtol=1e-6)

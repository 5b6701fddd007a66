import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cifar_flax.models.pooling import max_pool
from cifar_flax.runtime.compilation import jit


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(2, 8, 8, 1), (1, 7, 9, 2)])
@pytest.mark.parametrize("window", [1, 2, 3])
def test_max_pool_and_its_gradient_equal_reduce_window(shape, window, dtype):
    x = np.random.default_rng(0).permutation(math.prod(shape)).reshape(shape).astype(dtype)  # no two equal below 256

    def run(pool):
        def loss(x):
            y = pool(x)
            return (y**3).sum(), y

        return jit(jax.grad(loss, has_aux=True))(x)

    gradient, values = run(lambda x: max_pool(x, window))
    expected_gradient, expected_values = run(lambda x: nn.max_pool(x, (window, window), (window, window)))
    np.testing.assert_array_equal(values, expected_values)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-6)

import numpy as np
import pytest

from cifar_flax.optim.norms import norm, tree_norm
from cifar_flax.runtime.compilation import jit


@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 3, 17, 5), (2, 2, 256, 64), (37, 1), (31, 29)])
def test_a_norm_is_the_root_of_the_sum_of_squares(shape):
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    assert float(jit(norm)(x)) == pytest.approx(np.linalg.norm(x.astype(np.float64)), rel=1e-6)


def test_the_norm_of_a_tree_is_that_of_all_its_arrays_in_a_row():
    assert float(jit(tree_norm)({"a": np.float32([3, 0]), "b": (np.full((2, 2), 2, np.float32),)})) == 5.0

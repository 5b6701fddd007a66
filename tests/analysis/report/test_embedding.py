import numpy as np
from sklearn.decomposition import PCA

from cifar_flax.analysis.report.embedding import principal_components


def test_principal_components_are_scikit_learns():
    x = np.random.default_rng(0).normal(size=(50, 7)) * np.arange(1, 8)
    expected = PCA(2).fit_transform(x)
    actual = principal_components(x)
    np.testing.assert_allclose(np.abs(actual), np.abs(expected), rtol=1e-6, atol=1e-9)

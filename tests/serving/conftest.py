import pytest

from tests.serving.internet import authority, internet, trusted  # noqa: F401


@pytest.fixture
def network(make_network):
    return make_network()

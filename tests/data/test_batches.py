import numpy as np
import pytest

from cifar_flax.data.batches import epoch_batches, masked_batches


def test_an_epoch_uses_each_image_at_most_once_and_all_but_the_remainder():
    batches = list(epoch_batches(103, 10, seed=1, epoch=2))
    assert len(batches) == 10
    assert {batch.shape for batch in batches} == {(10,)}
    flat = np.concatenate(batches)
    assert len(set(flat)) == 100
    assert set(flat) <= set(range(103))


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return np.concatenate(list(epoch_batches(103, 10, seed, epoch))).tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.mark.parametrize("first", [0, 3, 10])
def test_going_on_within_an_epoch_gives_the_rest_of_it(first):
    whole, rest = list(epoch_batches(103, 10, 1, 2)), list(epoch_batches(103, 10, 1, 2, first))
    assert [batch.tolist() for batch in rest] == [batch.tolist() for batch in whole[first:]]


@pytest.mark.parametrize(("size", "batch_size"), [(100, 10), (103, 10), (3, 10)])
def test_masked_batches_count_every_image_once(size, batch_size):
    seen = np.concatenate([indices[mask] for indices, mask in masked_batches(size, batch_size)])
    np.testing.assert_array_equal(seen, np.arange(size))
    assert {indices.shape for indices, _ in masked_batches(size, batch_size)} == {(batch_size,)}

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from cifar_flax.data.batches import ResidentSource, StreamedSource, epoch_batches, load_ahead, round_up_batch
from cifar_flax.data.dataset import RowView
from cifar_flax.runtime.devices import data_parallel_mesh
from tests.conftest import tiny_split


def test_an_epoch_uses_each_image_at_most_once_and_all_but_the_remainder():
    batches = epoch_batches(103, 10, seed=1, epoch=2)
    assert batches.shape == (10, 10)
    assert batches.dtype == np.int32
    assert len(set(batches.ravel())) == 100
    assert set(batches.ravel()) <= set(range(103))


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        return epoch_batches(103, 10, seed, epoch).ravel().tolist()

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9


@pytest.fixture
def sharding():
    return NamedSharding(data_parallel_mesh(), PartitionSpec(None, "data"))


@pytest.mark.parametrize("kind", [ResidentSource, StreamedSource])
def test_sources_give_the_rows_that_are_asked_for(kind, sharding):
    dataset = tiny_split(50, 0)
    source = kind(dataset, sharding)
    indices = epoch_batches(50, 8, 3, 0)
    loaded = source.load(indices)
    for i, rows in enumerate(indices):
        batch = source.batch(source.resident, jax.tree.map(lambda x, i=i: x[i], loaded))
        np.testing.assert_array_equal(batch.images, dataset.images[rows])
        np.testing.assert_array_equal(batch.labels, dataset.labels[rows])
        np.testing.assert_array_equal(batch.indices, rows)
    shapes = jax.tree.map(lambda x: (x.shape[1:], x.dtype), loaded)
    assert shapes == jax.tree.map(lambda x: (x.shape, x.dtype), source.shapes((8,)))


def test_batches_of_several_seeds_are_gathered_side_by_side(sharding):
    dataset, indices = tiny_split(50, 0), np.arange(24, dtype=np.int32).reshape(2, 3, 4)
    seeds = NamedSharding(sharding.mesh, PartitionSpec())
    np.testing.assert_array_equal(
        StreamedSource(dataset, seeds).load(indices).images, dataset.images[:24].reshape(2, 3, 4, 8, 8, 3)
    )


def test_what_is_loaded_ahead_comes_in_order_and_an_error_is_raised():
    class Doubling:
        def load(self, indices):
            if indices.sum() < 0:
                raise OSError("the disk has gone")
            return 2 * indices

    chunks = [np.full(2, i) for i in range(7)]
    assert [loaded.tolist() for loaded in load_ahead(Doubling(), chunks)] == [[2 * i] * 2 for i in range(7)]
    with pytest.raises(OSError, match="the disk has gone"):
        list(load_ahead(Doubling(), [*chunks, np.full(2, -1)]))


def test_a_view_of_rows_reads_what_an_array_would_hold(tmp_path):
    array = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
    np.save(tmp_path / "array.npy", array)
    rows = np.array([7, 2, 2, 9])
    view = RowView(np.load(tmp_path / "array.npy", mmap_mode="r"), rows)
    assert (len(view), view.shape, view.dtype, view.nbytes) == (4, (4, 2, 3), np.uint8, 24)
    for key in (1, slice(1, 3), np.array([3, 0]), slice(None)):
        np.testing.assert_array_equal(view[key], array[rows][key])
    np.testing.assert_array_equal(np.asarray(view), array[rows])


@pytest.mark.parametrize("batch_size", [10, 103])
def test_balanced_batches_have_all_classes_equally_often(batch_size):
    labels = np.repeat([0, 1, 3], [80, 20, 3])
    batches = epoch_batches(103, batch_size, seed=0, epoch=0, balance=labels)
    drawn = batches.ravel()
    counts = np.bincount(labels[drawn], minlength=4)
    assert drawn.shape == (103 // batch_size * batch_size,)
    assert counts[2] == 0
    assert np.abs(counts[[0, 1, 3]] - len(drawn) / 3).max() <= 3
    times = np.bincount(drawn, minlength=103)
    assert times[:80].max() == 1
    assert np.count_nonzero(times[80:100] == 0) <= 2 + 3 * (batch_size == 10)
    assert times[100:].min() >= 10
    np.testing.assert_array_equal(batches, epoch_batches(103, batch_size, 0, 0, labels))
    assert (batches != epoch_batches(103, batch_size, 0, 1, labels)).any()


def test_a_batch_for_evaluation_is_no_larger_than_its_images():
    assert [round_up_batch(2**31 - 1, 103, devices) for devices in (1, 8)] == [103, 104]
    assert round_up_batch(40, 103, 8) == 40

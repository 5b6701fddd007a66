import pytest

from cifar_flax.config import Config, ResolutionConfig
from cifar_flax.config.flags import load_config
from cifar_flax.training.chunks import ChunkPlan, total_epochs
from cifar_flax.training.progress import Progress

STEPS_PER_EPOCH = 10
BATCH_BYTES = 512 * 32 * 32 * 3


@pytest.fixture
def config():
    config = Config()
    config.train.epochs = 3
    config.train.steps_per_dispatch = 4
    return config


def lengths(config, epoch=0, first=None):
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    return [chunk.length for chunk in plan.epoch(epoch, epoch * STEPS_PER_EPOCH if first is None else first)]


def test_chunks_are_as_long_as_the_config_says_and_end_with_the_epoch(config):
    assert lengths(config) == lengths(config, epoch=2) == [4, 4, 1, 1]
    config.train.steps_per_dispatch = 7
    assert lengths(config) == [5, 5]
    config.train.steps_per_dispatch = 1
    assert lengths(config) == [1] * STEPS_PER_EPOCH
    config.train.steps_per_dispatch = 100
    assert lengths(config) == [STEPS_PER_EPOCH]


def test_auto_is_one_step_a_dispatch_on_a_cpu(config):
    config.train.steps_per_dispatch = "auto"
    assert lengths(config) == [1] * STEPS_PER_EPOCH


@pytest.mark.parametrize(
    ("steps", "most", "expected"), [(48, 32, 24), (97, 32, 32), (390, 32, 30), (390, 4, 4), (1, 32, 1), (31, 8, 6)]
)
def test_an_epoch_is_divided_into_the_fewest_dispatches(config, steps, most, expected):
    config.train.steps_per_dispatch = most
    chunks = list(ChunkPlan(config, steps, BATCH_BYTES).epoch(0, 0))
    assert chunks[0].length == expected
    assert {chunk.length for chunk in chunks} <= {expected, 1}
    assert sum(chunk.length for chunk in chunks) == steps


def test_the_published_speed_run_takes_six_programs_on_a_gpu(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    plan = ChunkPlan(load_config("fast:published"), 50_000 // 1024, 1024 * 32 * 32 * 3)
    assert plan.programs(0) == [(20, 24), (20, 1), (24, 1), (24, 24), (None, 1), (None, 24)]


@pytest.mark.parametrize(("side", "longest"), [(32, 10), (224, 3), (1024, 1)])
def test_auto_is_many_steps_a_dispatch_on_an_accelerator_unless_their_images_are_large(config, monkeypatch, side, longest):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    config.train.steps_per_dispatch = "auto"
    plan = ChunkPlan(config, STEPS_PER_EPOCH, 1024 * side * side * 3)
    assert next(plan.epoch(0, 0)).length == longest


def test_training_may_end_within_an_epoch(config):
    config.train.epochs = 2.65  # 26.5 updates: one begun counts
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    assert plan.total_steps == 27
    assert [chunk.length for chunk in plan.epoch(2, 20)] == [4, 1, 1, 1]
    assert plan.programs(0) == [(None, 4), (None, 1)]
    assert [step for step in range(1, 28) if plan.ends_epoch(step)] == [10, 20, 27]
    config.train.epochs = 0.3  # not 4 steps, though .3 * 10 may be above 3
    assert ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES).total_steps == 3


@pytest.mark.parametrize("steps_per_epoch", [1, 7, 10, 10_000])
@pytest.mark.parametrize("difference", [0, 1e-9, 4e-7, 6e-7, 1e-6, 1e-4])
@pytest.mark.parametrize("whole", [0, 1, 3])
def test_the_last_step_ends_the_last_epoch(config, whole, difference, steps_per_epoch):
    config.train.epochs = whole + difference or 0.5
    plan = ChunkPlan(config, steps_per_epoch, BATCH_BYTES)
    assert plan.total_steps > (total_epochs(config) - 1) * steps_per_epoch
    assert plan.ends_epoch(plan.total_steps)
    assert plan.total_steps <= total_epochs(config) * steps_per_epoch
    assert Progress(total_epochs(config)).done(config)
    assert not Progress(total_epochs(config) - 1).done(config)


def test_chunks_end_where_images_grow(config):
    config.train.resolutions = (ResolutionConfig(until=0.5, size=16),)  # 15 of 30 updates
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    chunks = [chunk for epoch in range(3) for chunk in plan.epoch(epoch, epoch * STEPS_PER_EPOCH)]
    assert [chunk.length for chunk in chunks if chunk.image_size] == [4, 4, 1, 1, 4, 1]
    assert [chunk.length for chunk in chunks if not chunk.image_size] == [1, 1, 1, 1, 1, 4, 4, 1, 1]
    assert sum(chunk.length for chunk in chunks) == 30


@pytest.mark.parametrize("percent", range(101))
def test_images_grow_after_the_share_that_is_written(config, percent):
    config.train.epochs = 10
    config.train.resolutions = (ResolutionConfig(until=percent / 100, size=16),)  # .55 * 100 may be above 55
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    assert [plan.image_size(step) for step in range(100)] == [16] * percent + [None] * (100 - percent)
    chunks = [chunk for epoch in range(10) for chunk in plan.epoch(epoch, epoch * STEPS_PER_EPOCH)]
    assert sum(chunk.length for chunk in chunks if chunk.image_size) == percent


@pytest.mark.parametrize("end", [4, 8])
def test_a_resumed_epoch_has_the_chunks_that_it_would_have_had(config, end):
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    assert list(plan.epoch(0, end)) == [chunk for chunk in plan.epoch(0, 0) if chunk.first >= end]


@pytest.mark.parametrize("longest", [1, 4, 7])
def test_all_programs_are_known_before_they_are_needed(config, longest):
    config.train.steps_per_dispatch = longest
    config.train.resolutions = (ResolutionConfig(until=0.25, size=8), ResolutionConfig(until=0.5, size=16))
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    used = dict.fromkeys(
        (chunk.image_size, chunk.length) for epoch in range(3) for chunk in plan.epoch(epoch, epoch * STEPS_PER_EPOCH)
    )
    assert plan.programs(0) == list(used)
    assert set(plan.programs(20)) == {(None, length) for length in lengths(config, epoch=2)}

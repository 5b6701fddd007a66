import pytest

from cifar_flax.config import Config, ResolutionConfig
from cifar_flax.config.files import load_config
from cifar_flax.training.chunks import Chunk, ChunkPlan, total_epochs
from cifar_flax.training.progress import Progress

STEPS_PER_EPOCH = 10
BATCH_BYTES = 512 * 32 * 32 * 3


@pytest.fixture
def config():
    config = Config()
    config.train.epochs = 3000  # in which two programs a resolution cost little
    config.train.steps_per_dispatch = 4
    return config


def lengths(config, epoch=0, first=None):
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    return [chunk.length for chunk in plan.epoch(epoch, epoch * STEPS_PER_EPOCH if first is None else first)]


def test_chunks_are_as_long_as_the_config_says_and_end_with_the_epoch(config):
    assert lengths(config) == lengths(config, epoch=2999) == [4, 4, 1, 1]
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
def test_a_long_training_is_divided_into_the_fewest_dispatches(config, steps, most, expected):
    config.train.epochs, config.train.steps_per_dispatch = 100, most
    chunks = list(ChunkPlan(config, steps, BATCH_BYTES).epoch(0, 0))
    assert chunks[0].length == expected
    assert {chunk.length for chunk in chunks} <= {expected, 1}
    assert sum(chunk.length for chunk in chunks) == steps


@pytest.mark.parametrize("name", ["fast", "fast:published", "fast:long", "summit"])
def test_short_trainings_take_one_program_a_resolution_on_an_accelerator(monkeypatch, name):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    config = load_config(name)
    plan = ChunkPlan(config, 50_000 // config.train.batch_size, config.train.batch_size * 32 * 32 * 3)
    assert [size for size, _ in plan.programs(0)] == [20, 24, None]


def test_the_published_speed_run_makes_three_steps_a_dispatch_on_a_gpu(monkeypatch):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    plan = ChunkPlan(load_config("fast:published"), 50_000 // 1024, 1024 * 32 * 32 * 3)
    assert plan.programs(0) == [(20, 3), (24, 3), (None, 3)]


@pytest.mark.parametrize(("side", "longest"), [(32, 10), (224, 3), (1024, 1)])
def test_auto_is_many_steps_a_dispatch_on_an_accelerator_unless_images_are_large(config, monkeypatch, side, longest):
    monkeypatch.setattr("jax.default_backend", lambda: "gpu")
    config.train.steps_per_dispatch = "auto"
    plan = ChunkPlan(config, STEPS_PER_EPOCH, 1024 * side * side * 3)
    assert next(plan.epoch(0, 0)).length == longest


def test_training_may_end_within_an_epoch(config):
    config.train.epochs = 2.65  # 26.5 updates: one begun counts
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    assert plan.total_steps == 27
    assert [chunk.length for chunk in plan.epoch(2, 20)] == [1] * 7
    assert plan.programs(0) == [(None, 1)]
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
    config.train.resolutions = (ResolutionConfig(until=0.5005, size=16),)  # 15,015 of 30,000 updates
    chunks = list(ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES).epoch(1501, 15_010))
    assert [(chunk.first, chunk.length, chunk.image_size) for chunk in chunks] == [
        (15_010, 4, 16),
        (15_014, 1, 16),
        (15_015, 4, None),
        (15_019, 1, None),
    ]


def test_a_short_training_whose_images_grow_takes_one_program_a_resolution(config):
    config.train.epochs, config.train.steps_per_dispatch = 3, 7
    config.train.resolutions = (ResolutionConfig(until=0.5, size=16),)  # 15 of 30 updates
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    assert plan.programs(0) == [(16, 5), (None, 5)]


def test_images_grow_after_the_share_that_is_written(config):
    config.train.epochs = 10
    for percent in range(101):
        config.train.resolutions = (ResolutionConfig(until=percent / 100, size=16),)  # .55 * 100 may be above 55
        plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
        assert [plan.image_size(step) for step in range(100)] == [16] * percent + [None] * (100 - percent)
        chunks = [chunk for epoch in range(10) for chunk in plan.epoch(epoch, epoch * STEPS_PER_EPOCH)]
        assert sum(chunk.length for chunk in chunks if chunk.image_size) == percent


@pytest.mark.parametrize("end", [4, 8])
def test_a_resumed_epoch_has_the_chunks_that_it_would_have_had(config, end):
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    assert list(plan.epoch(0, end)) == [chunk for chunk in plan.epoch(0, 0) if chunk.first >= end]


def test_an_epoch_resumed_within_a_chunk_joins_the_others_at_its_end(config):
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    assert [(chunk.first, chunk.length) for chunk in plan.epoch(0, 3)] == [(3, 1), (4, 4), (8, 1), (9, 1)]
    assert [(chunk.first, chunk.length) for chunk in plan.epoch(0, 5)] == [(step, 1) for step in range(5, 10)]
    assert plan.programs(29_995) == [(None, 1)]


@pytest.mark.parametrize("longest", [1, 4, 7])
def test_all_programs_are_known_before_they_are_needed(config, longest):
    config.train.steps_per_dispatch = longest
    config.train.resolutions = (ResolutionConfig(until=0.2501, size=8), ResolutionConfig(until=0.5003, size=16))
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    used = dict.fromkeys(
        (chunk.image_size, chunk.length) for epoch in range(3000) for chunk in plan.epoch(epoch, epoch * STEPS_PER_EPOCH)
    )
    assert plan.programs(0) == list(used)
    assert set(plan.programs(29_990)) == {(None, length) for length in lengths(config, epoch=2999)}


@pytest.mark.parametrize(("every_steps", "due"), [(None, []), (1, [4, 8, 9]), (3, [4, 8, 9]), (8, [8]), (9, [9]), (10, [])])
def test_a_save_is_due_at_the_end_of_the_chunk_that_holds_its_step(config, every_steps, due):
    config.checkpoint.every_steps = every_steps
    plan = ChunkPlan(config, STEPS_PER_EPOCH, BATCH_BYTES)
    chunks = [Chunk(0, 4, None), Chunk(4, 4, None), Chunk(8, 1, None)]
    assert [chunk.end for chunk in chunks if plan.save_due_by_step(chunk)] == due

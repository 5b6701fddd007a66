import gzip
import json
import re

import jax.numpy as jnp
import pytest

from cifar_flax.training.chunks import Chunk
from cifar_flax.training.loop import train
from cifar_flax.training.profiling import OPERATIONS, SKIPPED, TRACED, Profiler


def traces(workdir):
    return list((workdir / "tensorboard").glob("plugins/profile/*/perfetto_trace.json.gz"))


def take(profiler, steps):
    for step in range(steps):
        assert int(profiler.call(Chunk(step, 1, None), lambda step=step: jnp.asarray(step) + 1)) == step + 1


@pytest.mark.parametrize(("steps", "traced"), [(SKIPPED + 2, 2), (SKIPPED + TRACED + 4, TRACED)])
def test_a_run_says_how_many_steps_were_traced(steps, traced, tmp_path, capsys):
    with Profiler(tmp_path) as profiler:
        take(profiler, steps)
    assert f"traced {traced} steps into {tmp_path}" in capsys.readouterr().out
    assert len(traces(tmp_path)) == 1


def test_a_run_that_fails_while_traced_leaves_the_trace_and_another_can_begin(tmp_path, capsys):
    def fail(workdir):
        with Profiler(workdir) as profiler:
            take(profiler, SKIPPED + 1)
            raise ValueError("diverged")

    for workdir in (tmp_path / "one", tmp_path / "other"):
        with pytest.raises(ValueError, match="diverged"):
            fail(workdir)
        assert "traced 1 step into" in capsys.readouterr().out
        assert len(traces(workdir)) == 1


def test_without_a_folder_nothing_is_traced_or_said(capsys):
    with Profiler(None) as profiler:
        take(profiler, SKIPPED + 1)
    assert capsys.readouterr().out == ""


def test_a_run_too_short_for_a_trace_says_so(tiny_data, tiny_config, tmp_path, capsys):
    tiny_config.train.epochs, tiny_config.train.batch_size = 1, 145
    train(tiny_config, tmp_path / "run", profile=True)
    assert "nothing traced: this process dispatched 2 times, and the first 3 are left out" in capsys.readouterr().out
    assert traces(tmp_path / "run") == []


@pytest.mark.parametrize("training", ["one seed", pytest.param("vmapped seeds", marks=pytest.mark.slow)], indirect=True)
def test_the_first_of_several_seeds_has_the_trace(tiny_data, tiny_config, training):
    tiny_config.train.epochs = 1
    first, *others = training(tiny_config, profile=True)
    (trace,) = traces(first)
    assert not any(map(traces, others))
    events = json.loads(gzip.decompress(trace.read_bytes()))["traceEvents"]
    named = [
        event["args"]["step_num"] for event in events if event.get("name") == "train" and "step_num" in event.get("args", {})
    ]
    assert sorted({int(step) for step in named}) == [3, 4, 5, 6, 7]
    lines = [line.split("\t") for line in (trace.parent / OPERATIONS).read_text().splitlines()]
    convolutions = [name for name, computes, _ in lines if re.search(r"ConvNet.*/conv_general_dilated", computes)]
    assert set(convolutions) & {event.get("name") for event in events}
    assert list(trace.parent.glob("*.xplane.pb"))

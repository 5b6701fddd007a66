import jax.numpy as jnp
import pytest

from cifar_flax.training.loop import train
from cifar_flax.training.profiling import SKIPPED, TRACED, profiled


def traces(workdir):
    return list((workdir / "tensorboard").glob("plugins/profile/*/perfetto_trace.json.gz"))


def take(step_of, steps):
    for step in range(steps):
        assert int(step_of(step)(jnp.asarray(step))) == step + 1


@pytest.mark.parametrize(("steps", "traced"), [(SKIPPED + 2, 2), (SKIPPED + TRACED + 4, TRACED)])
def test_a_run_says_how_many_steps_were_traced(steps, traced, tmp_path, capsys):
    with profiled(lambda step: lambda x: x + 1, tmp_path) as step_of:
        take(step_of, steps)
    assert f"traced {traced} steps into {tmp_path}" in capsys.readouterr().out
    assert len(traces(tmp_path)) == 1


def test_a_run_that_fails_while_it_is_traced_leaves_the_trace_and_another_can_begin(tmp_path, capsys):
    def fail(workdir):
        with profiled(lambda step: lambda x: x + 1, workdir) as step_of:
            take(step_of, SKIPPED + 1)
            raise ValueError("diverged")

    for workdir in (tmp_path / "one", tmp_path / "other"):
        with pytest.raises(ValueError, match="diverged"):
            fail(workdir)
        assert "traced 1 step into" in capsys.readouterr().out
        assert len(traces(workdir)) == 1


def test_a_run_too_short_for_a_trace_says_so(tiny_data, tiny_config, tmp_path, capsys):
    tiny_config.train.epochs, tiny_config.train.batch_size = 1, 145
    train(tiny_config, tmp_path / "run", profile=True)
    assert "no step traced: this process made 2, and its first 3 are left out" in capsys.readouterr().out
    assert traces(tmp_path / "run") == []

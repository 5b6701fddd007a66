import json

import numpy as np
import pytest

from cifar_flax import Run
from tests.conftest import TINY_CONFIG


@pytest.mark.slow
def test_eight_devices_train_as_one_does_and_their_checkpoint_opens_on_one(launch, tiny_data, tmp_path):
    losses = {}
    for devices in (1, 8):
        env = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}"}
        result = launch("train", f"--config={TINY_CONFIG}", f"--workdir=run{devices}", "--config.train.epochs=3", env=env)
        assert result.returncode == 0, result.stderr
        lines = (json.loads(line) for line in (tmp_path / f"run{devices}" / "metrics.jsonl").read_text().splitlines())
        losses[devices] = [record["loss"] for record in lines if record["kind"] == "step"][:20]
        assert len(json.loads((tmp_path / f"run{devices}" / "environment.json").read_text())["devices"]) == devices
    assert len(losses[8]) == 20
    np.testing.assert_allclose(losses[8], losses[1], rtol=1e-4)

    opened = Run.open(tmp_path / "run8")
    scores = opened.evaluate("test", "latest")
    assert scores["n"] == 103
    np.testing.assert_allclose(scores["loss"], Run.open(tmp_path / "run1").evaluate("test", "latest")["loss"], rtol=1e-3)


def test_a_batch_that_the_devices_cannot_share_evenly_is_refused(launch):
    env = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8"}
    result = launch("train", f"--config={TINY_CONFIG}", "--workdir=run", "--config.train.batch_size=30", env=env)
    assert result.returncode == 2
    assert "30 cannot be shared evenly by 8 devices" in result.stderr

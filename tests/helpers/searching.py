"""A quick search: a linear classifier on tiny pictures, and checks of its runs."""

import json
import time

EPOCHS = 6
STEPS = 9  # an epoch: 290 images in batches of 32
SPACE = """
from cifar_flax.search.space import Choice, LogUniform

def get_space():
    return {"optim.learning_rate": LogUniform(1e-3, 1e-1), "model.kernel_init": Choice(("he_normal", "lecun_normal"))}
"""
LINEAR = f"""
from cifar_flax.config import Config
from cifar_flax.optim import SGD

def get_config():
    c = Config()
    c.data.name = "tiny"
    c.optim = SGD()
    c.train.epochs, c.train.batch_size, c.train.eval_batch_size = {EPOCHS}, 32, 40
    c.log.every_steps, c.log.writers = 1, ()
    return c
"""
ARGS = ("--config=linear.py", "--space=space.py", "--strategy=random", "--workdir=search", "--heartbeat=1")


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def raise_timeout(unfinished):
    """In the place of `Study.run`'s wait for other processes."""
    raise TimeoutError


def wait_for_checkpoint(run, process):
    deadline = time.monotonic() + 200
    while not any(path.name.isdecimal() for path in (run / "checkpoints").glob("*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_complete(run, steps_per_epoch):
    """Every epoch and every step was trained and recorded once."""
    epochs = [record["epoch"] for record in records(run) if record["kind"] == "epoch"]
    steps = [record["step"] for record in records(run) if record["kind"] == "step"]
    assert epochs == list(range(1, EPOCHS + 1))
    assert steps == list(range(1, steps_per_epoch * EPOCHS + 1))

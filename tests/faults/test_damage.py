import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from cifar_flax.analysis.compare.runs import load_results
from cifar_flax.config.serialize import to_dict
from cifar_flax.data import cache
from cifar_flax.data.loading import load_dataset
from cifar_flax.pretrained import FOLDER
from cifar_flax.pretrained.weights import read_weights
from cifar_flax.run import Run
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records
from tests.faults.judging import problem_with
from tests.faults.scene import EPOCHS, content

HOW = ("flip", "cut")
WEIGHTS = Path("fast.safetensors")


def damaged(rng, content, how):
    """Flips a bit, or cuts at least one byte off the end; an empty file stays empty."""
    if not content:
        return content
    if how == "cut":
        return content[: int(rng.integers(len(content)))]
    place, bit = int(rng.integers(len(content))), int(rng.integers(8))
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def test_damaged_files_of_a_run_are_made_good_or_refused(scene, rng, thorough, cache_at):
    undisturbed = scene.undisturbed
    other = undisturbed.copy(scene.fresh("other"))

    def train_on(workdir):
        train(scene.config(EPOCHS + 1), workdir)
        return content(workdir)

    def evaluate(workdir):
        run = Run.open(workdir)
        logits = run.logits("test", "best").tobytes()
        parts = {"config": to_dict(run.config), "preprocessing": run.preprocessing, "records": read_records(workdir)}
        return {"best": run.step("best"), "logits": logits, **parts}

    def compare(workdir):
        entries = load_results([str(workdir), str(other)], "test", "best")
        return {"scores": [entry.scores for entry in entries], "correct": [entry.correct.tolist() for entry in entries]}

    cache_at(undisturbed.cache)
    expected = {read: read(undisturbed.copy(scene.fresh("expected"))) for read in (train_on, evaluate, compare)}
    files = {kind(undisturbed.workdir, path): path for path in sorted(undisturbed.workdir.rglob("*")) if path.is_file()}
    chosen = sorted(files) if thorough else sorted(rng.choice(sorted(files), 4, replace=False))
    problems = []
    for name in chosen:
        file = files[name].relative_to(undisturbed.workdir)
        silently = ("records",) if file.name == "metrics.jsonl" else ()  # a flipped digit is another number
        for read in (compare,) if name.startswith("report/") else (train_on, evaluate):
            for how in HOW:
                workdir = undisturbed.copy(scene.fresh("damaged"))
                original = (workdir / file).read_bytes()
                (workdir / file).write_bytes(damaged(rng, original, how))
                problem = problem_with(workdir, {file: original}, read, expected[read], silently)
                problems += [f"{how} {name}, then {read.__name__}: {problem}"] if problem else []
                shutil.rmtree(workdir)
        jax.clear_caches()
    assert problems == []


def kind(workdir, path):
    """The path in a run directory without numbers and hashes: "checkpoints/latest/state/d/*", "report/*.png"."""
    parts = list(path.relative_to(workdir).parts)
    if parts[0] == "checkpoints":
        steps = sorted(int(step.name) for step in (workdir / "checkpoints").iterdir())
        parts[1] = ("latest" if int(parts[1]) == steps[-1] else "older") if parts[1].isdigit() else parts[1]
        parts[-1] = "*" if re.fullmatch(r"[0-9a-f]{32}", parts[-1]) else parts[-1]
    if parts[0] == "report" and path.suffix in (".png", ".svg", ".npy", ".html"):
        parts[-1] = f"*{path.suffix}"
    return re.sub(r"events\..*", "events", "/".join(parts))


@pytest.mark.parametrize("rebuildable", [True, False])
def test_damaged_caches_are_rebuilt_or_refused(scene, rng, thorough, cache_at, rebuildable):
    """An entry of a folder of pictures can be made again, one that was imported cannot."""
    config, source = scene.config().data, scene.undisturbed.cache
    cache_at(source)
    if not rebuildable:
        splits = {split: load_dataset(config, split) for split in ("train", "test")}
        source = scene.fresh("imported")
        cache_at(source)
        cache.write("imported", splits, "an archive that is gone")

    def read(folder):
        cache_at(folder)
        splits = ("train", "test")
        loaded = {split: load_dataset(config, split) if rebuildable else cache.read("imported", split) for split in splits}
        return {s: data and (data.images.tobytes(), data.labels.tobytes(), data.class_names) for s, data in loaded.items()}

    expected, problems = read(source), []
    for file in sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file()):
        for how in HOW * (10 if thorough else 1):
            folder = shutil.copytree(source, scene.fresh("cache"))
            original = (folder / file).read_bytes()
            (folder / file).write_bytes(damaged(rng, original, how))
            problem = problem_with(folder, {file: original}, read, expected)
            problems += [f"{how} {file.name}: {problem}"] if problem else []
            shutil.rmtree(folder)
    assert problems == []


def test_damaged_weights_are_refused(scene, rng, thorough):
    original = (FOLDER / WEIGHTS).read_bytes()
    header = 8 + int.from_bytes(original[:8], "little")  # config and class names; tensors follow

    def read(folder):
        network = read_weights(folder / WEIGHTS)
        leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(network.variables)]
        parts = {"config": to_dict(network.config), "preprocessing": network.preprocessing}
        return {"variables": leaves, "figures": network.figures, **parts}

    expected, problems = read(FOLDER), []
    for part in ("header", "tensors"):
        for how in HOW * (10 if thorough else 1):
            if part == "header":
                content = damaged(rng, original[:header], how) + original[header:] * (how == "flip")
            else:
                content = original[:header] + damaged(rng, original[header:], how)
            folder = scene.fresh("weights")
            folder.mkdir()
            (folder / WEIGHTS).write_bytes(content)
            problem = problem_with(folder, {WEIGHTS: original}, read, expected)
            problems += [f"{how} {part}: {problem}"] if problem else []
    assert problems == []

"""A flipped bit, and a tail cut off, in each kind of file of a run, of the data cache and of the pretrained weights."""

import contextlib
import io
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks.injections.judging import Reader, judge
from benchmarks.injections.scene import CONFIG, EPOCHS, Result, Scene, cache_at, remains
from cifar_flax.analysis.compare.runs import load_entries
from cifar_flax.config import Config
from cifar_flax.config.serialize import to_dict, validated
from cifar_flax.data import cache
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.registry import load_dataset
from cifar_flax.pretrained import FOLDER
from cifar_flax.pretrained.weights import read_weights
from cifar_flax.run import Run
from cifar_flax.runtime.app import load_config
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records

HOW = ("flip", "cut")


def damaged(rng: np.random.Generator, content: bytes, how: str) -> bytes:
    """One bit turned, or a byte or more cut off the end; an empty file stays empty."""
    if not content:
        return content
    if how == "cut":
        return content[: int(rng.integers(len(content)))]
    place, bit = int(rng.integers(len(content))), int(rng.integers(8))
    return content[:place] + bytes([content[place] ^ 1 << bit]) + content[place + 1 :]


def damaged_runs(scene: Scene, rng: np.random.Generator, most: int | None) -> Iterator[Result]:
    """Damages files of a run, `most` of them or one of each kind; then trains on, evaluates or compares it."""
    calm = scene.undisturbed
    other = calm.copy(scene.fresh("other"))
    readers: dict[str, Reader] = {
        "train on": lambda workdir: _trained_on(scene, workdir),
        "evaluate": _evaluated,
        "compare": lambda workdir: _compared(workdir, other),
    }
    files = {_kind(calm.workdir, path): path for path in sorted(calm.workdir.rglob("*")) if path.is_file()}
    chosen = sorted(files) if most is None else sorted(rng.choice(sorted(files), most, replace=False))
    with cache_at(calm.cache):
        with contextlib.redirect_stdout(io.StringIO()):
            expected = {use: reader(calm.copy(scene.fresh("expected"))) for use, reader in readers.items()}
        for kind in chosen:
            name = files[kind].relative_to(calm.workdir)
            for use in ("compare",) if kind.startswith("report/") else ("train on", "evaluate"):
                for how in HOW:
                    workdir = calm.copy(scene.fresh("damaged"))
                    whole = (workdir / name).read_bytes()
                    (workdir / name).write_bytes(damaged(rng, whole, how))
                    yield judge(f"{how} {kind}, then {use}", workdir, {name: whole}, readers[use], expected[use])
                    shutil.rmtree(workdir)
            jax.clear_caches()


def damaged_caches(scene: Scene, rng: np.random.Generator, rounds: int) -> Iterator[Result]:
    """Damages each file of a cache entry that can be made anew, and of an imported one, which cannot."""
    config = _config(scene).data
    calm, imported = scene.undisturbed.cache, scene.fresh("imported")
    with cache_at(calm):
        splits = {split: load_dataset(config, split) for split in ("train", "test")}
    with cache_at(imported):
        cache.write("imported", splits, "an archive that is gone")
    made_anew, once = _loader(lambda split: load_dataset(config, split)), _loader(lambda split: cache.read("imported", split))
    for what, source, read in (("made anew", calm, made_anew), ("imported", imported, once)):
        known = read(source)
        for file in sorted(path.relative_to(source) for path in source.rglob("*") if path.is_file()):
            kind = re.sub(r"-\w+\.npy", ".npy", file.name)
            for how in HOW * rounds:
                copy = Path(shutil.copytree(source, scene.fresh("cache")))
                whole = (copy / file).read_bytes()
                (copy / file).write_bytes(damaged(rng, whole, how))
                yield judge(f"{how} cache ({what}) {kind}, then load", copy, {file: whole}, read, known)
                shutil.rmtree(copy)


def damaged_weights(scene: Scene, rng: np.random.Generator, rounds: int) -> Iterator[Result]:
    """Damages a copy of the network in the box: its header, which holds config and class names, or its tensors."""
    file = Path("fast.safetensors")
    whole, expected = (FOLDER / file).read_bytes(), _network(FOLDER)
    header = 8 + int.from_bytes(whole[:8], "little")
    for part, content in (("header", whole[:header]), ("tensors", whole[header:])):
        for how in HOW * rounds:
            folder = scene.fresh("weights")
            folder.mkdir()
            new = damaged(rng, content, how)
            (folder / file).write_bytes(whole[:header] + new if part == "tensors" else new + whole[header:] * (how == "flip"))
            yield judge(f"{how} pretrained {part}, then load", folder, {file: whole}, _network, expected)
            shutil.rmtree(folder)


def _config(scene: Scene) -> Config:
    config = load_config(str(CONFIG))
    config.data.name, config.data.image_size, config.train.epochs = f"folder:{scene.pictures}", 8, EPOCHS + 1
    return validated(config)


def _trained_on(scene: Scene, workdir: Path) -> dict[str, Any]:
    train(_config(scene), workdir)
    return remains(workdir)


def _evaluated(workdir: Path) -> dict[str, Any]:
    run = Run.open(workdir)
    best = run.hold("best")
    logits = run.predict("test", best).tobytes()
    known = {"config": to_dict(run.config), "preprocessing": run.preprocessing}
    return {"best": best, "logits": logits, "records": read_records(workdir), **known}


def _compared(workdir: Path, other: Path) -> dict[str, Any]:
    entries = load_entries([str(workdir), str(other)], "test", "best")
    return {"scores": [entry.scores for entry in entries], "right": [entry.right.tolist() for entry in entries]}


def _loader(load: Callable[[str], Dataset | None]) -> Reader:
    def read(folder: Path) -> dict[str, Any]:
        with cache_at(folder):
            loaded = {split: load(split) for split in ("train", "test")}
        return {
            split: data and (data.images.tobytes(), data.labels.tobytes(), data.class_names) for split, data in loaded.items()
        }

    return read


def _network(folder: Path) -> dict[str, Any]:
    network = read_weights(folder / "fast.safetensors")
    leaves = [np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(network.variables())]
    return {"variables": leaves, "config": to_dict(network.config), "figures": network.figures, "known": network.preprocessing}


def _kind(workdir: Path, path: Path) -> str:
    """What a file is, without numbers and hashes: "checkpoints/latest/state/d/*", "report/*.png"."""
    parts = list(path.relative_to(workdir).parts)
    if parts[0] == "checkpoints":
        steps = sorted(int(step.name) for step in (workdir / "checkpoints").iterdir())
        parts[1] = ("latest" if int(parts[1]) == steps[-1] else "older") if parts[1].isdigit() else parts[1]
        parts[-1] = "*" if re.fullmatch(r"[0-9a-f]{32}", parts[-1]) else parts[-1]
    if parts[0] == "report" and path.suffix in (".png", ".svg", ".npy", ".html"):
        parts[-1] = f"*{path.suffix}"
    return re.sub(r"events\..*", "events", "/".join(parts))

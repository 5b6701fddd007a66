"""What configs and runs there are, and what is in them, as text."""

import ast
import json
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cifar_flax.config.schema import Config
from cifar_flax.config.serialize import read_config, to_dict
from cifar_flax.errors import UserError
from cifar_flax.files.checksum import read_checksummed
from cifar_flax.files.installation import CONFIGS

WIDTH = 80  # columns
TEXTS = 4  # cells of a run's row that are no numbers


def describe_configs() -> str:
    """A line for each config of this package and each of its variants: the name, and how its docstring begins."""
    return "\n".join(line for path in sorted(CONFIGS.glob("*.py")) for line in _describe_config(path))


def _describe_config(path: Path) -> Iterator[str]:
    """Reads the file without executing it."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    yield _line(path.stem, _sentence(module))
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name("VARIANTS")], value=ast.Dict(keys, values)):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Name):
                        yield _line(f"  :{key.value!s}", _sentence(functions[value.id]))


def _sentence(node: ast.Module | ast.FunctionDef) -> str:
    return (ast.get_docstring(node) or "").partition("\n")[0].rstrip(".")


def _line(name: str, text: str) -> str:
    return f"{name:<16}{textwrap.shorten(text, WIDTH - 16, placeholder=' ...')}".rstrip()


def describe_runs(folder: Path) -> str:
    """A table of the runs in a folder and below: when they began, network and data, epochs, best validation and test top-1."""
    rows: list[tuple[str, ...]] = [("run", "began", "network", "data", "epochs", "validation", "test")]
    rows += [_describe_run(path.parent, folder) for path in sorted(folder.rglob("config.json"))]
    if len(rows) == 1:
        return f"{folder}: no run there"
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def aligned(row: tuple[str, ...]) -> str:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:TEXTS], widths, strict=False)]
        cells += [f"{cell:>{width}}" for cell, width in zip(row[TEXTS:], widths[TEXTS:], strict=True)]
        return "  ".join(cells).rstrip()

    return "\n".join(map(aligned, rows))


def _describe_run(run: Path, folder: Path) -> tuple[str, ...]:
    name = str(run.relative_to(folder)) if run != folder else run.name
    began = time.strftime("%Y-%m-%d %H:%M", time.localtime((run / "config.json").stat().st_mtime))
    try:
        config = read_config(run / "config.json")
    except UserError:
        return name, began, "(damaged, or of another version)", "", "", "", ""
    epochs = [record for record in _records(run / "metrics.jsonl") if record.get("kind") == "epoch"]
    validated = [record["validation_top1"] for record in epochs if record.get("validation_top1") is not None]
    try:
        test = f"{read_checksummed(run / 'report' / 'test.json')['top1']:.2%}"
    except (OSError, ValueError, KeyError):
        test = ""
    of = f"{len(epochs)}/{config.train.epochs:g}"
    return name, began, config.model.name, config.data.name, of, f"{max(validated):.2%}" if validated else "", test


def _records(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a run's records; a run may be writing there."""
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                record = json.loads(line)
            except ValueError:
                continue
            if isinstance(record, dict):
                yield record


def describe_fields(config: Config) -> str:
    """A line for each field that differs from the default of its section, marked, and each that does not."""
    default = dict(_flat(to_dict(Config())))
    lines = []
    for path, value in _flat(to_dict(config)):
        mark = "" if path not in default or default[path] == value else "  *"
        lines.append(f"config.{path} = {value!r}{mark}")
    return "\n".join(lines)


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _flat(value, f"{path}.{name}" if path else name)
    else:
        yield path, tree

"""The configs that there are, and their contents, as text."""

import ast
import pprint
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cifar_flax.config.defaults import changes, is_part_of
from cifar_flax.config.schema import Config
from cifar_flax.config.serialize import to_dict
from cifar_flax.files.installation import CONFIGS

WIDTH = 80  # columns


def describe_configs() -> str:
    """The configs of this package, and the variants of each: the name, and the first sentence of its docstring."""
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
    return textwrap.fill(text, WIDTH, initial_indent=f"{name:<16}", subsequent_indent=" " * 16).rstrip() or name


def describe_fields(config: Config) -> str:
    """A line a field, with a mark where it differs from its default; those of a network and an optimizer are its own."""
    changed = [change.path for change in changes(config)]
    lines = []
    for path, value in _flat(to_dict(config)):
        mark = "  *" if is_part_of(path, changed) else ""
        line = f"config.{path} = {value!r}{mark}"
        if len(line) > WIDTH:
            text = pprint.pformat(value, width=WIDTH - 4, compact=True, sort_dicts=False)
            line = f"config.{path} ={mark}\n{textwrap.indent(text, '    ')}"
        lines.append(line)
    return "\n".join(lines)


def _flat(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(tree, dict):
        for name, value in tree.items():
            yield from _flat(value, f"{path}.{name}" if path else name)
    else:
        yield path, tree

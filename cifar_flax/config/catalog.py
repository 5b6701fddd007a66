"""The configs that there are, and their contents, as text."""

import ast
import pprint
import textwrap
from collections.abc import Iterator
from pathlib import Path

from cifar_flax.config.defaults import changes, is_part_of
from cifar_flax.config.schema import Config
from cifar_flax.config.serialize import flatten_config, to_dict
from cifar_flax.files.docstrings import first_sentence
from cifar_flax.files.installation import CONFIGS
from cifar_flax.files.tables import TERMINAL_WIDTH


def describe_configs() -> str:
    """The configs of this package, and the variants of each: the name, and the first sentence of its docstring."""
    return "\n".join(line for path in sorted(CONFIGS.glob("*.py")) for line in _describe_config(path))


def _describe_config(path: Path) -> Iterator[str]:
    """Reads the file without executing it."""
    module = ast.parse(path.read_text(encoding="utf-8"))
    yield _line(path.stem, first_sentence(module))
    functions = {node.name: node for node in module.body if isinstance(node, ast.FunctionDef)}
    for node in module.body:
        match node:
            case ast.Assign(targets=[ast.Name("VARIANTS")], value=ast.Dict(keys, values)):
                for key, value in zip(keys, values, strict=True):
                    if isinstance(key, ast.Constant) and isinstance(value, ast.Name):
                        yield _line(f"  :{key.value!s}", first_sentence(functions[value.id]))


def _line(name: str, text: str) -> str:
    return textwrap.fill(text, TERMINAL_WIDTH, initial_indent=f"{name:<16}", subsequent_indent=" " * 16).rstrip() or name


def describe_fields(config: Config) -> str:
    """A line a field, with a mark where it differs from its default; those of a network and an optimizer are its own."""
    changed = [change.path for change in changes(config)]
    lines = []
    for path, value in flatten_config(to_dict(config), entries=False):
        mark = "  *" if is_part_of(path.removeprefix("config."), changed) else ""
        line = f"{path} = {value!r}{mark}"
        if len(line) > TERMINAL_WIDTH:
            text = pprint.pformat(value, width=TERMINAL_WIDTH - 4, compact=True, sort_dicts=False)
            line = f"{path} ={mark}\n{textwrap.indent(text, '    ')}"
        lines.append(line)
    return "\n".join(lines)

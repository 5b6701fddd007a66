"""The text of --help."""

import re
import sys
import textwrap
from typing import Any

from absl import flags

from cifar_flax.files.tables import TERMINAL_WIDTH
from cifar_flax.runtime.command_line import as_typed

HELP_COLUMN = 30  # where descriptions of flags begin
FIELDS = {
    "data.name": "the images: cifar100, folder:PATH and so on",
    "train.epochs": "how long it trains",
    "train.batch_size": "images an update, over all devices",
    "optim.name": "the optimizer: sgd, adam, adamw, muon and so on",
    "optim.learning_rate": "its highest rate",
    "augment.flip": "mirrors half of the images; augment has many more",
    "data.validation_fraction": "share of the training images to validate with",
    "seed": "of initial weights, batches and augmentation",
    "train.num_seeds": "runs with further seeds, and their mean and sd",
}


def about(flag: flags.Flag[Any]) -> str:
    """The purpose of a flag, without the values that absl puts before it."""
    return re.sub(r"^<[^>]*>: ", "", str(flag.help))


def help_text(program: str, arguments: str) -> str:
    """The purpose of the app, and its own flags; of the config the fields that are set most often.

    Args:
      program: path of the app, by which absl knows its flags.
      arguments: names of the positional arguments; empty where the app takes none.
    """
    paragraphs = as_typed((sys.modules["__main__"].__doc__ or "").strip()).split("\n\n")
    purpose = [
        text if text.startswith(" ") else textwrap.fill(text, TERMINAL_WIDTH, break_on_hyphens=False) for text in paragraphs
    ]
    lines = ["\n\n".join(purpose), "", *([arguments, ""] if arguments else [])]
    ours = [
        flag
        for module, defined in flags.FLAGS.flags_by_module_dict().items()
        for flag in defined
        if module == program or module.startswith("cifar_flax.")
    ]
    for flag in sorted((flag for flag in ours if flag.name.partition(".")[0] != "config"), key=lambda flag: flag.name):
        default = "" if flag.default in (None, False, "", []) else f" ({str(flag.default_as_str).strip(chr(39))})"
        required = "; required" * any("other than None" in validator.message for validator in flag.validators)
        values = f"={'|'.join(flag.parser.enum_values)}" if hasattr(flag.parser, "enum_values") else ""
        lines.append(_described(f"--{flag.name}{values}", f"{about(flag)}{required}{default}"))
    if "config" in flags.FLAGS:
        lines.append(_described("--config=NAME", flags.FLAGS["config"].help))
        lines += ["", "Fields of the config that are set most often; `show NAME` lists all:", ""]
        lines += [_described(f"--config.{name}", text) for name, text in FIELDS.items()]
    return "\n".join(lines)


def _described(name: str, text: str) -> str:
    """A line, or more, of at most TERMINAL_WIDTH."""
    start = f"  {name}".ljust(HELP_COLUMN) if len(name) + 3 < HELP_COLUMN else f"  {name}\n{'':{HELP_COLUMN}}"
    lines = textwrap.wrap(" ".join(text.split()), TERMINAL_WIDTH - HELP_COLUMN, break_on_hyphens=False)
    return start + f"\n{'':{HELP_COLUMN}}".join(lines)

"""The command `cifar-flax VERB ...` of the installed package: each verb is an app of launch/."""

import ast
import os
import re
import runpy
import sys
from pathlib import Path

import cifar_flax
from cifar_flax.errors import did_you_mean
from cifar_flax.files.docstrings import first_sentence
from cifar_flax.files.installation import LAUNCH

FILES = {"import": "import_data"}  # of verbs that are called otherwise
ORDER = ("train", "evaluate", "predict", "serve", "calibrate", "compare", "search", "export", "import", "list", "show")
PROGRAM = "cifar-flax"
NETWORK = "run directory, pretrained:NAME, FILE.safetensors, a folder of export, or hf:USER/NAME"  # what --run takes
VARIABLE = "CIFAR_FLAX_PROGRAM"  # set to what was typed, for messages


def main() -> None:
    """Runs the app of the verb, or lists the verbs; exits 2 where there is no such verb."""
    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("--help", "-h", "help"):
        print(_usage())
        return
    verb = arguments[0]
    if verb == "--version":
        print(cifar_flax.__version__)
        return
    if verb not in ORDER:
        print(f"{PROGRAM} {verb}: no such command; {did_you_mean(verb, ORDER)}", file=sys.stderr)
        sys.exit(2)
    os.environ[VARIABLE] = PROGRAM
    file = str(_file_of(verb))
    sys.argv = [file, *arguments[1:]]
    runpy.run_path(file, run_name="__main__")


def typed(verb: str) -> str:
    """The command that runs an app, as the user types it: "cifar-flax evaluate", or "python launch/evaluate.py"."""
    if os.environ.get(VARIABLE) == PROGRAM:
        return f"{PROGRAM} {verb}"
    return f"{Path(sys.executable).name} launch/{FILES.get(verb, verb)}.py"


def as_typed(text: str) -> str:
    """The text with the commands in it as the user types them."""
    if os.environ.get(VARIABLE) != PROGRAM:
        return text
    verbs = {file: verb for verb, file in FILES.items()}
    text = re.sub(r"python launch/(\w+)\.py", lambda match: f"{PROGRAM} {verbs.get(match[1], match[1])}", text)
    return re.sub(r"--config=configs/(\w+)\.py", r"--config=\1", text)


def _file_of(verb: str) -> Path:
    return LAUNCH / f"{FILES.get(verb, verb)}.py"


def _usage() -> str:
    lines = [f"{PROGRAM} COMMAND [--FLAG=VALUE ...]; {PROGRAM} COMMAND --help says more", ""]
    lines += [f"  {verb:<10}{first_sentence(ast.parse(_file_of(verb).read_text(encoding='utf-8')))}" for verb in ORDER]
    return "\n".join(lines)

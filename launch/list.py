"""Lists configs and their variants, or the runs in a folder: python launch/list.py [FOLDER ...]."""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

from pathlib import Path

from cifar_flax.analysis.run_table import describe_runs
from cifar_flax.config.catalog import describe_configs
from cifar_flax.errors import UserError
from cifar_flax.runtime import app


def main(folders: list[str]) -> None:
    """Prints a line a config or run."""
    if not folders:
        print(describe_configs())
        return
    for folder in folders:
        if not Path(folder).is_dir():
            raise UserError(f"{folder}: no such folder; expected one with runs in it, such as runs/, or none for configs")
        print(describe_runs(Path(folder)))


if __name__ == "__main__":
    app.run(main, arguments="[FOLDER ...]")

"""Shows the fields of a config, or of a run's: python launch/show.py NAME[:VARIANT], FILE.py[:VARIANT] or RUN."""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

from pathlib import Path

from cifar_flax.config.catalog import describe_fields
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import read_config, validated
from cifar_flax.errors import UserError
from cifar_flax.files.layout import CONFIG, is_exported
from cifar_flax.runtime import app
from cifar_flax.training.seed_folders import best_seed


def main(names: list[str]) -> None:
    """Prints a line a field; of a folder of seeds that of the best."""
    for name in names:
        if is_exported(Path(name)):
            raise UserError(f"{name}: weights alone; expected the name of a config, FILE.py or a run directory")
        run = best_seed(Path(name)) / CONFIG
        print(describe_fields(read_config(run) if run.is_file() else validated(load_config(name))))


if __name__ == "__main__":
    app.run(main, arguments="NAME ...")

"""What a folder is, told without importing JAX: a run directory, or a network that was exported for the Hugging Face Hub."""

from pathlib import Path

from cifar_flax.files.folder import read_json

CONFIG, DATASET = "config.json", "dataset.json"  # of a run; an exported network has a config.json of another kind
WEIGHTS = "model.safetensors"  # by the custom of the Hub


def is_exported(folder: Path) -> bool:
    """Whether it is one of `export --format=huggingface`: its config.json is not a run's but for other programs.

    A run has dataset.json besides, even if somebody exported its weights into its own folder under that name.
    """
    return (folder / WEIGHTS).is_file() and not (folder / DATASET).exists()


def is_run_directory(folder: Path) -> bool:
    """Whether it holds the config of a run, or what is left of one."""
    try:
        config = read_json(folder / CONFIG)
    except OSError:
        return False
    except ValueError:  # damaged: it may be a run all the same
        return (folder / DATASET).exists()
    return isinstance(config, dict) and {"model", "optim"} <= config.keys()

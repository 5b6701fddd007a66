"""The folder of a network that was exported for the Hugging Face Hub, told from that of a run without importing JAX."""

from pathlib import Path

WEIGHTS = "model.safetensors"  # by the custom of the Hub


def is_exported(folder: Path) -> bool:
    """Whether it is one of `export --format=huggingface`: its config.json is not a run's but for other programs.

    A run has dataset.json besides, even if somebody exported its weights into its own folder under that name.
    """
    return (folder / WEIGHTS).is_file() and not (folder / "dataset.json").exists()

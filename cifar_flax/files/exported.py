"""The folder of a network that was exported for the Hugging Face Hub, told from that of a run without importing JAX."""

from pathlib import Path

WEIGHTS = "model.safetensors"  # by the custom of the Hub; a run has no such file


def is_exported(folder: Path) -> bool:
    """Whether it is one of `export --format=huggingface`: its config.json is not a run's but for other programs."""
    return (folder / WEIGHTS).is_file()

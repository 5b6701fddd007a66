"""Compares runs on the same images: python launch/compare.py runs/wide runs/narrow [--csv=PATH] [--html=PATH]."""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start()  # before what takes long to import

from pathlib import Path

from absl import flags

from cifar_flax.data.sources.split_names import SPLITS
from cifar_flax.runtime import app
from cifar_flax.training.seed_folders import expand_seeds

_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "images to compare on")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "checkpoint of each run: best or latest")
_CSV = flags.DEFINE_string("csv", None, "CSV file to write, a row per run")
_HTML = flags.DEFINE_string("html", None, "page to write, with the tables and the learning curves")


def main(workdirs: list[str]) -> None:
    """Prints the tables and writes the files that the flags name; evaluates runs whose predictions are missing."""
    from cifar_flax.analysis.compare.runs import load_results  # after the flags are checked: a typo should not wait for JAX
    from cifar_flax.analysis.compare.tables import comparison_tables
    from cifar_flax.analysis.compare.writers import write_csv, write_html
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache

    enable_persistent_cache()
    results = load_results(expand_seeds(workdirs), _SPLIT.value, _CHECKPOINT.value)
    print("\n\n".join(table.text() for table in comparison_tables(results, _SPLIT.value)))
    if _CSV.value:
        write_csv(Path(_CSV.value), results)
        print(f"table: {_CSV.value}")
    if _HTML.value:
        curves = write_html(Path(_HTML.value), results, _SPLIT.value)
        print(f"page: {_HTML.value}\ncurves: {', '.join(map(str, curves))}")


if __name__ == "__main__":
    app.run(main, arguments="RUN RUN...")

"""Compares runs on the same images: python launch/compare.py runs/wide runs/narrow [--csv=PATH] [--html=PATH]."""

from pathlib import Path

from absl import flags

import cifar_flax.runtime.startup  # noqa: F401 # before what takes long to import
from cifar_flax.runtime import app

_SPLIT = flags.DEFINE_enum("split", "test", ["train", "validation", "test"], "images to compare on")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best or latest, of each run")
_CSV = flags.DEFINE_string("csv", None, "file to write a row a run to")
_HTML = flags.DEFINE_string("html", None, "page to write the tables and the learning curves to")


def main(workdirs: list[str]) -> None:
    """Prints the tables, and writes them where the flags say; runs without predictions of that checkpoint are evaluated."""
    from cifar_flax.analysis.compare.runs import load_entries  # after the flags are checked: a typo should not wait for JAX
    from cifar_flax.analysis.compare.tables import tables, write_csv, write_html

    entries = load_entries(workdirs, _SPLIT.value, _CHECKPOINT.value)
    print("\n\n".join(table.text() for table in tables(entries, _SPLIT.value)))
    if _CSV.value:
        write_csv(Path(_CSV.value), entries)
        print(f"table: {_CSV.value}")
    if _HTML.value:
        curves = write_html(Path(_HTML.value), entries, _SPLIT.value)
        print(f"page: {_HTML.value}\ncurves: {curves}")


if __name__ == "__main__":
    app.run(main, arguments="RUN RUN...")

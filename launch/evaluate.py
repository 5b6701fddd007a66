"""Scores a network on a split and writes a report: python launch/evaluate.py --run=runs/wide --split=test [--tta=flip].

--run=pretrained:fast and weights files are scored on the data that they were trained on; their report goes to ./NAME-report/.
"""

from cifar_flax.runtime import startup

if __name__ == "__main__":
    startup.start(large_pages=True)  # before what takes long to import

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

from cifar_flax.data.sources.split_names import SPLITS
from cifar_flax.errors import UserError
from cifar_flax.files.folder import make_folder
from cifar_flax.runtime import app
from cifar_flax.runtime.command_line import NETWORK, typed
from cifar_flax.runtime.flag_values import TTA
from cifar_flax.training.seed_folders import holds_seeds, seed_folders

if TYPE_CHECKING:
    from cifar_flax.analysis.predictions import Predictions
    from cifar_flax.data.dataset import Dataset
    from cifar_flax.network import Network
    from cifar_flax.run import Run

_RUN = flags.DEFINE_string("run", None, NETWORK, required=True)
_SPLIT = flags.DEFINE_enum("split", "test", SPLITS, "images to evaluate on")
_CHECKPOINT = flags.DEFINE_string("checkpoint", "best", "best, latest or a step")
_TTA = flags.DEFINE_enum("tta", "none", list(TTA), "test-time augmentation: logits averaged over mirrored and shifted images")
_WEIGHTS = flags.DEFINE_enum(
    "weights", "ema", ["ema", "raw"], "ema: the averaged weights where the run kept an average, and the raw ones' top-1 beside"
)
_CORRUPTIONS = flags.DEFINE_bool("corruptions", False, "score on noisy, blurred and otherwise corrupted images too")
_PROBE = flags.DEFINE_enum("probe", "none", ["none", "color"], "color: score without colour, and with hues turned, too")
_OUTPUT = flags.DEFINE_string(
    "output", None, "folder of the report; default: RUN/report, or NAME-report where there is no run directory"
)
_REPORT = flags.DEFINE_bool("report", True, "write a page and its pictures too")


def main() -> None:
    """Evaluates a network, or several seeds of a run, and writes its report."""
    from cifar_flax.pretrained import load_weights  # after the flags are checked: a typo should not wait for JAX
    from cifar_flax.runtime.compilation_cache import enable_persistent_cache

    enable_persistent_cache()
    folder = Path(_RUN.value)
    of_seeds = holds_seeds(folder) and load_weights(_RUN.value) is None  # which refuses a name of the package too
    if of_seeds and len(seed_folders(folder)) > 1:  # one is evaluated as the run that it is
        _evaluate_seeds(folder, Path(_OUTPUT.value or folder / "report"))
    else:
        _evaluate_run()


@contextmanager
def _writing(report: Path) -> Iterator[None]:
    """Has the user choose another folder where this one may only be read."""
    try:
        yield
    except OSError as e:
        if e.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise
        raise UserError(f"{report}: no report can be written there ({e.strerror}); give another folder by --output") from None


def _evaluate_seeds(folder: Path, report: Path) -> None:
    """Evaluates each seed, writes its scores, and the table of them, with mean and sd, which it prints.

    Scores of a seed go into its own folder, or, with --output, into one of its name there.
    """
    if (_TTA.value, _WEIGHTS.value, _PROBE.value) != ("none", "ema", "none") or _CORRUPTIONS.value:
        options = "--tta, --weights, --corruptions and --probe"
        raise UserError(f"--run={folder}: {options} are for one run; give one of the folders in it")
    from cifar_flax.analysis.compare.writers import write_seed_report
    from cifar_flax.analysis.predictions import predict_split, score, write_predictions
    from cifar_flax.run import Run

    seeds, made, split, which = seed_folders(folder), [], _SPLIT.value, _CHECKPOINT.value
    reports = [report / seed.name if _OUTPUT.value else Run.open(seed).report_folder for seed in seeds]
    for of_seed in reports:  # before the first is scored
        with _writing(of_seed):
            make_folder(of_seed)
    for seed, of_seed in zip(seeds, reports, strict=True):
        run = Run.open(seed)  # and not all before: each keeps its networks
        predictions, dataset = predict_split(run, split, which)
        made.append(predictions)
        with _writing(of_seed):
            write_predictions(run, predictions, score(run, predictions, dataset), of_seed)
    with _writing(report):
        print(write_seed_report(report, seeds, split, which, _REPORT.value, made))


def _evaluate_run() -> None:
    """Evaluates, prints the scores and writes them to NAME.json, with predictions, and the page NAME.html with pictures."""
    from cifar_flax.analysis.predictions import predict_split, score, write_predictions
    from cifar_flax.evaluation.scores import informative_top_k
    from cifar_flax.run import BareRun, open_run  # after the flags are checked: a typo should not wait for JAX

    run, split = open_run(_RUN.value), _SPLIT.value
    if _CORRUPTIONS.value or _PROBE.value != "none":
        from cifar_flax.analysis.robustness.accuracy import check_color

        check_color(run.preprocessing.image_shape[-1])
    report = Path(_OUTPUT.value) if _OUTPUT.value else run.report_folder
    predictions, dataset = predict_split(run, split, _CHECKPOINT.value, _TTA.value, _WEIGHTS.value == "ema")
    scores = score(run, predictions, dataset)
    if isinstance(run, BareRun):
        scores["network"] = _RUN.value  # the report does not lie in its run directory
    top_k = "  ".join(f"top-{k} {scores[f'top{k}']:.2%}" for k in informative_top_k(run.preprocessing.num_classes))
    superclass = f"  superclass {scores['superclass_top1']:.2%}" if "superclass_top1" in scores else ""
    origin = _RUN.value if isinstance(run, BareRun) else f"checkpoint {predictions.step}"
    print(f"{split}, {scores['n']:,} images, {origin}\n{top_k}  loss {scores['loss']:.4f}")
    if raw := scores.get("raw_weights"):
        print(f"raw weights, not averaged: top-1 {raw['top1']:.2%}  top-5 {raw['top5']:.2%}  loss {raw['loss']:.4f}")
    calibration = _calibration(run, predictions, scores)
    print(f"macro F1 {scores['macro_f1']:.2%}{superclass}\ncalibration error {calibration}", flush=True)
    with _writing(report):
        print(f"-> {write_predictions(run, predictions, scores, report)}")
        if _CORRUPTIONS.value or _PROBE.value != "none":
            _evaluate_robustness(run.network(predictions.step, predictions.ema), predictions, dataset, report)
        if _REPORT.value:
            from cifar_flax.analysis.report.page import write_report  # matplotlib only where pictures are drawn

            print(f"report: {write_report(run, predictions, dataset, scores, report)}")


def _calibration(run: "Run", predictions: "Predictions", scores: dict[str, Any]) -> str:
    """The calibration error, and what it was without the temperature, or how to get one, where that can be had."""
    if scores["temperature"] == 1:
        fits = "network" not in scores and predictions.step == run.step()  # it takes a run directory, and its best checkpoint
        other = "" if run.config.data.validates else " --validated=A_RUN_THAT_HELD_OUT_IMAGES"
        hint = f" ({typed('calibrate')} --run={_RUN.value}{other} fits one)" if fits else ""
        return f"{scores['ece']:.2%}, no temperature{hint}"
    return f"{scores['ece']:.2%} at its temperature of {scores['temperature']:.2f}, {scores['ece_uncalibrated']:.2%} without"


def _evaluate_robustness(network: "Network", predictions: "Predictions", dataset: "Dataset", folder: Path) -> None:
    """Writes and prints the scores on images without colour or with turned hues, and on corrupted ones."""
    from cifar_flax.analysis.robustness import accuracy

    if _PROBE.value == "color":
        print(accuracy.color_table(accuracy.color_accuracy(network, dataset, predictions, folder)))
    if _CORRUPTIONS.value:
        print(accuracy.corruption_table(accuracy.corruption_accuracy(network, dataset, predictions, folder)))


if __name__ == "__main__":
    app.run(main)

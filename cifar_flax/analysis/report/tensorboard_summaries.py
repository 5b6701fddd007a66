"""What TensorBoard gets of a run that has ended: hyper-parameters, the confusion matrix, and predictions with pictures."""

from pathlib import Path

from cifar_flax.analysis.config_diff import differing_fields, in_words
from cifar_flax.config import Config
from cifar_flax.config.serialize import differences
from cifar_flax.run import Run
from cifar_flax.training.records import read_records
from cifar_flax.training.tensorboard import TensorBoard


def write_board(workdir: Path) -> None:
    """Adds to WORKDIR/tensorboard; pictures are of the best checkpoint on the validation split, where there is one.

    Raises:
      UserError: as `Run.open` and `Run.predict`.
    """
    run = Run.open(workdir)
    step = run.step("best")
    board = TensorBoard(workdir, run.step("latest") + 1)
    try:
        board.hyperparameters(step, hyperparameters(run.config), _scores(workdir, step))
        if run.config.log.pictures and (run.config.data.folds is not None or run.config.data.validation_fraction > 0):
            from cifar_flax.analysis.report.tensorboard_pictures import (
                board_pictures,  # matplotlib only where pictures are drawn
            )

            for name, picture in board_pictures(run):
                board.picture(step, name, picture)
    finally:
        board.close()


def hyperparameters(config: Config) -> dict[str, str | bool | float]:
    """The fields that differ from the defaults, and the learning rate, by path; what is neither number nor switch as text."""
    found = {path: new for path, (_, new) in differing_fields(differences(Config(), config)).items()}
    found["optim.learning_rate"] = config.optim.learning_rate
    return {path: value if isinstance(value, bool | int | float) else in_words(value) for path, value in sorted(found.items())}


def _scores(workdir: Path, step: int) -> dict[str, float]:
    """The validation scores of the epoch that ended with a checkpoint, as metrics.jsonl has them, but for nulls."""
    epochs = [record for record in read_records(workdir) if record["kind"] == "epoch" and record["step"] == step]
    found = epochs[-1] if epochs else {}
    scores = {f"best/{name}": found.get(f"validation_{name}") for name in ("top1", "top5", "f1", "loss")}
    return {name: score for name, score in scores.items() if score is not None}

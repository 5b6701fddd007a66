"""Run directories that somebody else made: what they hold is refused in a line, and nothing outside of them is written."""

import copy
import json
import os
import shutil

import pytest
from flax.training.early_stopping import EarlyStopping

from cifar_flax.analysis.predictions import read_predictions
from cifar_flax.analysis.run_table import describe_runs
from cifar_flax.config import CheckpointConfig
from cifar_flax.config.serialize import validated
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.errors import CifarFlaxError, UserError
from cifar_flax.files.atomic import write_text
from cifar_flax.files.checksum import HASH, dumps_checksummed, read_checksummed
from cifar_flax.run import Run
from cifar_flax.training.checkpoints.manager import Checkpoints
from cifar_flax.training.progress import PlateauState, Progress
from cifar_flax.training.records import Records, read_records
from cifar_flax.training.run_dir import open_run_dir
from cifar_flax.training.seed_folders import seed_folders
from cifar_flax.training.writers.tensorboard import TensorBoard
from tests.training.checkpoints.test_manager import like, progress, state

PREPROCESSING = Preprocessing((8, 8, 3), ("cat", "dog"), ("pet",), (0, 0), (0.5,) * 3, (0.2,) * 3, {"images": "1"})
RECORD = {"kind": "epoch", "step": 4, "epoch": 1, "validation_top1": 0.5, "elapsed": 2.5}
ODD = [None, -1, 0.5, float("nan"), 1e400, 2**70, 10**400, "x", "", [], {}, [0], [[0.5] * 4], {"x": 1}]


@pytest.fixture(scope="module")
def config(request):
    from cifar_flax.config.files import load_config
    from tests.conftest import TINY_CONFIG

    return validated(load_config(str(TINY_CONFIG)))


@pytest.fixture
def workdir(tmp_path, config):
    """A run directory without its checkpoints."""
    folder = tmp_path / "run"
    open_run_dir(folder, config, PREPROCESSING).close()
    (folder / "metrics.jsonl").write_text(json.dumps(RECORD) + "\n")
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A run directory with nothing but a checkpoint."""
    folder = tmp_path_factory.mktemp("run")
    with Checkpoints(folder, CheckpointConfig()) as checkpoints:
        checkpoints.save(4, state(4), progress(1), {"top1": 0.5})
    return folder


def resume(workdir, config):
    open_run_dir(workdir, config, PREPROCESSING).close()
    Records(workdir, 4, 1).close()
    TensorBoard(workdir, lambda tag, step: True).close()


def edits(value):
    """Copies of a JSON value in which one part of it is another value, or is missing."""
    yield from ODD
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in parts:
        rest = copy.copy(value)
        del rest[key]
        yield rest
        for other in edits(part):
            edited = copy.copy(value)
            edited[key] = other
            yield edited


def accepts(read, *args):
    """Whether it takes what it reads; anything but a line for the user is a failure."""
    try:
        read(*args)
    except CifarFlaxError:
        return False
    return True


@pytest.mark.parametrize(("file", "every"), [("dataset.json", 1), ("config.json", 5)])
def test_json_with_a_hash_of_whatever_it_holds_is_validated(workdir, file, every):
    sound = read_checksummed(workdir / file)
    for edited in list(edits(sound))[::every]:
        (workdir / file).write_text(dumps_checksummed(edited) if isinstance(edited, dict) else json.dumps(edited))
        accepts(Run.open, workdir)
    (workdir / file).write_text(dumps_checksummed(sound))
    assert accepts(Run.open, workdir)


@pytest.mark.parametrize("content", [[], {}, {"earlier": 1}, {"earlier": [0]}, {"backend": [], "earlier": [{}]}])
def test_a_run_goes_on_whatever_is_said_of_earlier_sessions(workdir, config, content):
    (workdir / "environment.json").write_text(dumps_checksummed(content) if content else json.dumps(content))
    resume(workdir, config)
    assert read_checksummed(workdir / "environment.json")["backend"] == "cpu"


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("mean", [0.5] * 4),
        ("std", [0.0] * 3),
        ("coarse_of_fine", [0]),
        ("coarse_of_fine", [0, 1]),
        ("class_names", []),
        ("class_names", ["cat", "cat"]),
    ],
)
def test_preprocessing_of_no_data_set_is_refused(workdir, part, value):
    (workdir / "dataset.json").write_text(dumps_checksummed({**read_checksummed(workdir / "dataset.json"), part: value}))
    assert not accepts(Run.open, workdir)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
def test_images_have_one_or_three_channels(workdir, channels):
    content = {**read_checksummed(workdir / "dataset.json"), "image_shape": [8, 8, channels]}
    content |= {"mean": [0.5] * channels, "std": [0.2] * channels}
    (workdir / "dataset.json").write_text(dumps_checksummed(content))
    assert accepts(Preprocessing.read, workdir / "dataset.json") == (channels == 1)


def test_records_that_are_none_are_left_out(workdir):
    lines = [json.dumps(edited) for edited in edits(RECORD)]
    (workdir / "metrics.jsonl").write_text("\n".join([*lines, "[" * 100_000, "\0", json.dumps(RECORD)]))
    for record in read_records(workdir):
        assert 0 <= record["step"] + record["epoch"] < 2**60
        assert record["kind"] in ("step", "epoch")
        assert record.get("validation_top1") is None or abs(record["validation_top1"]) < 1e39
        assert record["kind"] == "step" or 0 <= record["elapsed"] < 1e11


def test_the_table_of_runs_takes_whatever_a_run_says_of_itself(workdir):
    (workdir / "report").mkdir()
    for odd in [*ODD, {"command": [1], "time": [1]}, {"command": ["--config=a.py"], "time": "\x1b[31m"}]:
        (workdir / "report" / "test.json").write_text(dumps_checksummed({"top1": odd}))
        (workdir / "environment.json").write_text(dumps_checksummed({"earlier": [odd]}))
        _, row = describe_runs(workdir).splitlines()
        assert row.isprintable()


def test_predictions_that_are_a_pipe_are_missing(workdir):
    (workdir / "report").mkdir()
    os.mkfifo(workdir / "report" / "test_predictions.npz")
    assert read_predictions(workdir / "report" / "test_predictions.npz") is None


@pytest.mark.parametrize("names", [["../other"], ["/etc"], [0], "x", {"../..": 0.5}, {"": 0.5}, {"seed٣": 0.5}])
def test_seeds_that_lie_elsewhere_are_refused(workdir, names):
    (workdir / "seeds.json").write_text(json.dumps({"score": "validation_top1", "seeds": {"seed3": 0.5}}))
    assert accepts(seed_folders, workdir)
    (workdir / "seeds.json").write_text(json.dumps({"score": "validation_top1", "seeds": names}))
    assert not accepts(seed_folders, workdir)


@pytest.mark.parametrize(("file", "every"), [("info/info.json", 40), ("metrics/metrics", 1)])
def test_info_and_scores_of_checkpoints_are_validated(checkpoint, file, every):
    path = checkpoint / "checkpoints" / "4" / file
    original = path.read_text()
    sound = {name: part for name, part in json.loads(original).items() if name != HASH}

    def read():
        checkpoints = Checkpoints(checkpoint, CheckpointConfig(), read_only=True)
        if every > 1:
            checkpoints.restore(checkpoints.find("best"), like())

    for edited in list(edits(sound))[::every]:
        path.write_text(dumps_checksummed(edited) if isinstance(edited, dict) else json.dumps(edited))
        accepts(read)
    path.write_text(original)
    assert accepts(read)


METADATA = [
    *(
        "[]",
        "1",
        "null",
        '"x"',
        '{"metrics": 3}',
        '{"item_handlers": 5}',
        '{"init_timestamp_nsecs": "x"}',
        "[" * 100_000,
        "1" * 5000,
    ),
    *(
        '{"commit_timestamp_nsecs": 1' + "0" * 300 + "}",
        '{"performance_metrics": {"x": 0.5}}',
        '{"x": 1, "custom_metadata": {"x": 1}}',
    ),
]
FILES_OF_ORBAX = [
    "_CHECKPOINT_METADATA",
    "model/_METADATA",
    "model/manifest.ocdbt",
    "model/array_metadatas/process_0",
    "model/d",
]


@pytest.fixture
def later_checkpoint(checkpoint, tmp_path):
    """A run directory with the checkpoints 4 and 5, and the folder of the later one."""
    folder = shutil.copytree(checkpoint, tmp_path / "run")
    return folder, shutil.copytree(folder / "checkpoints" / "4", folder / "checkpoints" / "5")


def is_refused_by_readers_and_set_aside_by_train(folder, caplog):
    with pytest.raises(UserError, match=r"checkpoint 5 in .* is damaged \(.+\)$"):
        Checkpoints(folder, CheckpointConfig(), read_only=True)
    with Checkpoints(folder, CheckpointConfig()) as checkpoints:
        assert checkpoints.steps() == [4]
        checkpoints.restore(4, like())
    assert len(list((folder / "damaged_checkpoints").iterdir())) == 1
    return "checkpoint 5" in caplog.text


@pytest.mark.parametrize("text", METADATA, ids=range(len(METADATA)))
def test_metadata_of_checkpoints_is_validated(later_checkpoint, text, caplog):
    folder, later = later_checkpoint
    (later / "_CHECKPOINT_METADATA").write_text(text)
    assert is_refused_by_readers_and_set_aside_by_train(folder, caplog)


@pytest.mark.parametrize("file", FILES_OF_ORBAX)
@pytest.mark.parametrize("make", [os.mkfifo, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "zeros"])
def test_pipes_and_devices_in_a_checkpoint_are_damage(later_checkpoint, file, make, caplog):
    folder, later = later_checkpoint
    path = next((later / file).iterdir()) if file == "model/d" else later / file
    path.unlink()
    make(path)
    assert is_refused_by_readers_and_set_aside_by_train(folder, caplog)


def test_a_checkpoint_named_in_digits_of_another_script_is_damage(later_checkpoint):
    folder, later = later_checkpoint
    later.rename(later.with_name("1٣"))
    with pytest.raises(UserError, match=r"checkpoint 1٣ in .* is damaged"):
        Checkpoints(folder, CheckpointConfig(), read_only=True)


def test_a_run_whose_only_checkpoint_is_a_pipe_is_left_as_it_is(checkpoint, tmp_path):
    folder = shutil.copytree(checkpoint, tmp_path / "run")
    shutil.rmtree(folder / "checkpoints" / "4")
    os.mkfifo(folder / "checkpoints" / "4")
    with pytest.raises(UserError, match=r"no checkpoint in .* is intact; --restart"):
        Checkpoints(folder, CheckpointConfig())
    assert not (folder / "damaged_checkpoints").exists()


def test_files_of_a_checkpoint_that_are_links_to_files_are_read(checkpoint, tmp_path):
    """As in the cache of the Hugging Face Hub."""
    folder = shutil.copytree(checkpoint, tmp_path / "run")
    for path in [path for path in folder.rglob("*") if path.is_file()]:
        blob = tmp_path / str(abs(hash(path)))
        path.rename(blob)
        path.symlink_to(blob)
    Checkpoints(folder, CheckpointConfig(), read_only=True).restore(4, like())


def test_progress_is_what_progress_can_be():
    sound = progress(3).to_json()
    for edited in edits(sound):
        try:
            accepted = Progress.from_json(edited)
        except (KeyError, TypeError):
            continue
        assert accepted.epochs_done >= 0
        assert isinstance(accepted.learning_rate_scale, int | float)
    exact = Progress(3, PlateauState(0.25, 1, 2, 0.5), EarlyStopping(0.001, 3, 0.25, 1, True))
    assert Progress.from_json(exact.to_json()) == exact


@pytest.mark.parametrize("content", ["[" * 100_000, '{"a":' * 100_000, "", "\0", "null", "1" * 5000])
@pytest.mark.parametrize("file", ["config.json", "dataset.json", "seeds.json"])
def test_text_that_is_no_object_costs_a_line(workdir, file, content):
    (workdir / file).write_text(content)
    assert not accepts(seed_folders if file == "seeds.json" else Run.open, workdir)


@pytest.mark.parametrize("file", ["config.json", "dataset.json", "seeds.json", "metrics.jsonl"])
@pytest.mark.parametrize(
    "make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/dev/zero", path)], ids=["pipe", "folder", "zeros"]
)
def test_pipes_devices_and_folders_in_place_of_files_are_refused(workdir, file, make):
    (workdir / file).unlink(missing_ok=True)
    make(workdir / file)
    read = {"seeds.json": seed_folders, "metrics.jsonl": read_records}.get(file, Run.open)
    assert not accepts(read, workdir)


@pytest.mark.parametrize("file", ["config.json", "dataset.json", "seeds.json", "metrics.jsonl"])
def test_a_file_that_links_to_itself_is_refused(workdir, file):
    (workdir / file).unlink(missing_ok=True)
    (workdir / file).symlink_to(file)
    read = {"seeds.json": seed_folders, "metrics.jsonl": read_records}.get(file, Run.open)
    with pytest.raises(UserError, match=rf"{file}: cannot be read \(Too many levels of symbolic links\)$"):
        read(workdir)


@pytest.mark.parametrize(("section", "field"), [("data", "name"), ("train", "init_from"), ("train", "teacher")])
def test_a_path_in_a_config_writes_no_lines_of_its_own_into_messages(workdir, section, field):
    content = read_checksummed(workdir / "config.json")
    content[section][field] = "folder:/tmp/\n\x1b[2J"
    (workdir / "config.json").write_text(dumps_checksummed(content))
    fault = rf"config.{section}.{field}: 'folder:/tmp/\\n\\x1b\[2J' holds control characters; rename what it names$"
    with pytest.raises(UserError, match=fault):
        Run.open(workdir)


LINKS = [
    "config.json",
    "dataset.json",
    "environment.json",
    "metrics.jsonl",
    ".lock",
    "tensorboard",
    "trackers",
    "checkpoints",
    "report",
    "checkpoints/7",
]


@pytest.mark.parametrize("name", LINKS)
@pytest.mark.parametrize("dangling", [False, True])
def test_nothing_is_written_through_a_link(workdir, tmp_path, config, name, dangling):
    outside, path = tmp_path / "outside", workdir / name
    is_folder = not path.is_file() and name != ".lock"
    if not dangling and is_folder:
        outside.mkdir()
        (outside / "7").mkdir()
    elif not dangling:
        outside.write_bytes((path if path.exists() else workdir / "metrics.jsonl").read_bytes())
    if path.exists():
        path.unlink()
    path.parent.mkdir(exist_ok=True)
    path.symlink_to(outside)
    before = sorted(p.name for p in outside.rglob("*")) if is_folder else outside.read_bytes() if outside.exists() else None
    refusals = []
    for write in (lambda: resume(workdir, config), lambda: write_report(workdir)):
        try:
            write()
        except (CifarFlaxError, OSError) as e:
            refusals.append(str(e))
    assert all("link" in refusal for refusal in refusals)
    assert outside.exists() != dangling
    assert before == (
        sorted(p.name for p in outside.rglob("*")) if is_folder else outside.read_bytes() if outside.exists() else None
    )


def write_report(workdir):
    from cifar_flax.files.folder import make_folder

    make_folder(workdir / "report")
    write_text(workdir / "report" / "test.json", "{}")


def test_a_temporary_name_cannot_be_guessed_and_a_link_is_replaced(tmp_path):
    (tmp_path / "outside").write_text("precious")
    for name in ("test.json", "test.tmp", "test.json.tmp", ".test.json"):
        (tmp_path / name).symlink_to("outside")
    write_text(tmp_path / "test.json", "{}")
    assert (tmp_path / "outside").read_text() == "precious"
    assert not (tmp_path / "test.json").is_symlink()

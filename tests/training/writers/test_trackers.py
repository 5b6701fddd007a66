"""Weights & Biases and MLflow without a server: what they wrote, read with their own classes, is what metrics.jsonl says."""

import json
import re
import shutil
import struct

import numpy as np
import pytest

from cifar_flax.analysis.report.summaries import closing_pictures
from cifar_flax.config.serialize import validated
from cifar_flax.errors import Diverged, UserError
from cifar_flax.training.loop import train
from cifar_flax.training.records import curves, read_records
from cifar_flax.training.writers import Session, open_writers
from cifar_flax.training.writers.summary import write_summary

BLOCK, HEADER = 32768, 7  # of the log format of LevelDB, in which wandb keeps records


def wandb_records(path):
    """The records of a .wandb file; wandb itself reads them in its Go program alone."""
    pb = pytest.importorskip("wandb.proto.wandb_internal_pb2")
    content, at, whole = path.read_bytes(), HEADER, b""  # a header of the file, of the same length, comes first
    while at + HEADER <= len(content):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + HEADER])
        whole += content[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (1, 4):  # full, or last
            yield pb.Record.FromString(whole)
            whole = b""


def wandb_points(run):
    """The points (name, step, value) of all sessions of a run, in order, and the names of its pictures."""
    points, pictures = [], []
    for path in sorted(run.glob("wandb/offline-run-*/*.wandb")):
        for record in wandb_records(path):
            if record.WhichOneof("record_type") == "history":
                items = {tuple(item.nested_key) or (item.key,): json.loads(item.value_json) for item in record.history.item}
                step = items["_step",]
                points += [(*key, step, x) for key, x in items.items() if len(key) == 1 and not key[0].startswith("_")]
                pictures += [key[0] for key in items if key[1:] == ("_type",)]
    return points, pictures


def mlflow_points(run, client):
    run_id = json.loads((run / "trackers" / "mlflow.json").read_text())["id"]
    names = client.get_run(run_id).data.metrics
    return [(name, point.step, point.value) for name in names for point in client.get_metric_history(run_id, name)]


def recorded(run):
    return without_speed((name, r["step"], value) for r in read_records(run) for name, value in curves(r).items())


def without_speed(points):
    """In order; the speed differs where steps are repeated, the rest to the last bit is the same."""
    return sorted(point for point in points if point[0] != "step/images_per_second")


def train_in_two_parts(config, run):
    """Stops after the first epoch, loses its last checkpoint, and trains on: steps 6 to 9 are made twice."""

    def stop(epoch, scores, over):
        raise Diverged("stopped")

    with pytest.raises(Diverged):
        train(config, run, after_epoch=stop)
    (run / "checkpoints" / "9").rename(run.parent / "9")
    train(config, run)
    write_summary(run, closing_pictures)


@pytest.mark.slow
def test_a_resumed_run_has_each_point_once_in_wandb_offline(tmp_path, tiny_data, tiny_config, monkeypatch, capfd):
    pytest.importorskip("wandb")
    for name, value in {"WANDB_MODE": "offline", "HTTPS_PROXY": "http://127.0.0.1:9"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    tiny_config.log.writers, tiny_config.log.pictures = ("wandb",), True
    run = tmp_path / "group" / "run"
    train_in_two_parts(validated(tiny_config), run)
    points, pictures = wandb_points(run)
    assert len({point[:2] for point in points}) == len(points)
    assert without_speed(points) == recorded(run)
    assert sorted(pictures) == ["confusion", "first layer", "first layer", *(f"prediction/{k}" for k in range(6))]
    ids = {re.sub(r".*-", "", path.name) for path in (run / "wandb").glob("offline-run-*")}
    assert ids == {json.loads((run / "trackers" / "wandb.json").read_text())["id"]}
    assert "wandb" not in "".join(capfd.readouterr())
    records = [record for path in run.glob("wandb/offline-run-*/*.wandb") for record in wandb_records(path)]
    sent = {(record.run.display_name, record.run.host) for record in records if record.WhichOneof("record_type") == "run"}
    assert sent == {("group/run", "")}  # docs/training.md: no name of a host


@pytest.mark.slow
def test_a_resumed_run_has_each_point_once_in_mlflow(tmp_path, tiny_data, tiny_config, monkeypatch, capfd):
    mlflow = pytest.importorskip("mlflow")
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME"):
        monkeypatch.delenv(name, raising=False)
    tiny_config.log.writers, tiny_config.log.pictures = ("mlflow",), True
    run = tmp_path / "group" / "run"
    train_in_two_parts(validated(tiny_config), run)
    client = mlflow.MlflowClient(f"sqlite:///{run}/mlflow/mlflow.db")
    points = mlflow_points(run, client)
    assert len({point[:2] for point in points}) == len(points)
    assert without_speed(point for point in points if not point[0].startswith("best/")) == recorded(run)
    assert sum(name == "best/top1" for name, _, _ in points) == 1
    (tracked,) = client.search_runs([client.get_experiment_by_name("group").experiment_id])
    assert (tracked.info.run_name, tracked.info.status) == ("run", "FINISHED")
    assert tracked.data.params["train.batch_size"] == "32"
    assert {file.path for file in client.list_artifacts(tracked.info.run_id, "pictures/first layer")} == {
        f"pictures/first layer/{step:08d}.png" for step in (9, 18)
    }
    assert capfd.readouterr().err == ""


def test_mlflow_keeps_everything_in_the_run_directory_whatever_that_is_called(tmp_path, tiny_config, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "a b%20?c#d" / "run"
    run.mkdir(parents=True)
    tiny_config.log.writers = ("mlflow",)
    (writer,) = open_writers(Session(run, tiny_config, 0, 0))
    writer.scalars(1, {"step/loss": 0.5})
    writer.picture(1, "first layer", np.zeros((2, 2, 3), np.uint8))
    writer.close()
    files = {str(path.relative_to(run / "mlflow")) for path in (run / "mlflow").rglob("*") if path.is_file()}
    assert {re.sub(".*/pictures/", "", name) for name in files} == {"mlflow.db", "first layer/00000001.png"}
    assert list(tmp_path.iterdir()) == [run.parent]
    assert list(run.parent.iterdir()) == [run]
    shutil.copy(run / "mlflow" / "mlflow.db", tmp_path)
    assert mlflow_points(run, mlflow.MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")) == [("step/loss", 1, 0.5)]


def test_two_runs_that_begin_an_experiment_of_mlflow_at_the_same_moment_share_it(tmp_path, tiny_config, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/shared.db")
    tiny_config.log.writers = ("mlflow",)
    find, calls = mlflow.MlflowClient.get_experiment_by_name, []

    def find_too_early(client, name):
        calls.append(name)
        return None if len(calls) in (1, 2) else find(client, name)  # neither run finds it at first

    monkeypatch.setattr(mlflow.MlflowClient, "get_experiment_by_name", find_too_early)
    for name in ("0000", "0001"):
        (tmp_path / "search" / "trials" / name).mkdir(parents=True)
        (writer,) = open_writers(Session(tmp_path / "search" / "trials" / name, tiny_config, 0, 0))
        writer.close()
    client = mlflow.MlflowClient()
    assert {run.info.run_name for run in client.search_runs([find(client, "search").experiment_id])} == {"0000", "0001"}


def test_without_a_login_wandb_asks_no_question(tmp_path, tiny_config, monkeypatch):
    pytest.importorskip("wandb").teardown()  # it has read the environment of the tests before
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_config.log.writers = ("wandb",)
    with pytest.raises(UserError, match="nobody is logged in to wandb; type wandb login, or set WANDB_MODE=offline"):
        open_writers(Session(tmp_path, tiny_config, 0, 0))

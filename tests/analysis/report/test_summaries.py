"""Summaries as TensorBoard reads them: from event files."""

import io
import json
import shutil

import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.plugin_hparams_pb2 import HParamsPluginData

from cifar_flax import Run
from cifar_flax.analysis.report.summaries import closing_pictures
from cifar_flax.config.files import load_config
from cifar_flax.config.serialize import validated
from cifar_flax.files.checksum import dumps_checksummed, read_checksummed
from cifar_flax.training.loop import train
from cifar_flax.training.records import read_records
from cifar_flax.training.writers.summary import write_summary
from tests.conftest import TINY_CONFIG
from tests.training.writers.test_tensorboard import events


@pytest.fixture(scope="module")
def run(tiny_cache, tmp_path_factory):
    folder = tmp_path_factory.mktemp("board") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CIFAR_FLAX_CACHE", str(tiny_cache))
        config = load_config(str(TINY_CONFIG))
        config.log.pictures = True
        train(validated(config), folder)
        write_summary(folder, closing_pictures)
    return folder


def values(run):
    return [(event.step, value) for event in events(run / "tensorboard") for value in event.summary.value]


def test_pictures_are_kernels_each_epoch_then_confusion_and_predictions(run):
    pictures = [
        (step, value.tag, Image.open(io.BytesIO(value.image.encoded_image_string)))
        for step, value in values(run)
        if value.HasField("image")
    ]
    kernels = [(step, picture) for step, tag, picture in pictures if tag == "first_layer"]
    assert [step for step, _ in kernels] == [9, 18]
    assert not np.array_equal(kernels[0][1], kernels[1][1])
    final = {tag: picture for _, tag, picture in pictures if tag != "first_layer"}
    assert final.keys() == {"confusion", *(f"prediction/{k}" for k in range(6))}
    assert all(picture.width > 200 and np.asarray(picture).std() > 5 for picture in final.values())


def test_the_hparams_tab_has_fields_and_best_scores(run):
    best = Run.open(run).step("best")
    epoch = Run.open(run).metrics().query(f"kind == 'epoch' and step == {best}").iloc[0]
    scalars = {value.tag: value.simple_value for _, value in values(run) if value.tag.startswith("best/")}
    assert scalars["best/top1"] == pytest.approx(epoch["validation_top1"])
    sessions = [value for _, value in values(run) if value.tag == "_hparams_/session_start_info"]
    chosen = HParamsPluginData.FromString(sessions[0].metadata.plugin_data.content).session_start_info.hparams
    assert chosen["train.batch_size"].number_value == 32
    assert chosen["data.name"].string_value == "tiny"
    assert chosen["augment.flip"].bool_value


def test_a_validation_loss_that_is_not_finite_is_left_out(run, tiny_data, tmp_path):
    workdir = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(workdir / "tensorboard")
    records = read_records(workdir)
    nulls = [{**record, "validation_loss": None} if record["kind"] == "epoch" else record for record in records]
    (workdir / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in nulls))
    write_summary(workdir, closing_pictures)
    scores = {value.tag for _, value in values(workdir) if value.tag.startswith("best/")}
    assert {"best/top1", "best/top5", "best/f1"} <= scores
    assert "best/loss" not in scores


def test_without_a_validation_split_no_split_is_opened_for_pictures(run, tmp_path, monkeypatch):
    workdir = shutil.copytree(run, tmp_path / "run")
    shutil.rmtree(workdir / "tensorboard")
    config = read_checksummed(workdir / "config.json")
    config["data"]["validation_fraction"] = 0.0
    (workdir / "config.json").write_text(dumps_checksummed(config))
    monkeypatch.setattr(Run, "dataset", None)
    write_summary(workdir, closing_pictures)
    assert not [value for _, value in values(workdir) if value.HasField("image")]

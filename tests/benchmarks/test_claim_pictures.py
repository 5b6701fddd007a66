import re
import shutil

import numpy as np
import pytest
from PIL import Image

from benchmarks.claim_pictures import draw_all, page_of
from cifar_flax.files.atomic import write_text


@pytest.mark.slow
def test_what_there_are_runs_and_curves_of_is_drawn_and_the_rest_named(tiny_run, tiny_data, tmp_path):
    for name in ("mlp", "wide-short"):
        shutil.copytree(tiny_run, tmp_path / name)
        (tmp_path / name / "report").mkdir(exist_ok=True)
        write_text(tmp_path / name / "report" / "test.json", "{}")
    np.save(tmp_path / "wide-short" / "report" / "test_confusion.npy", 7 * np.eye(10, dtype=np.int64))
    points = {"epoch": [1, 2], "train_top1": [0.1, 0.3], "validation_top1": [0.2, 0.25]}
    lines = [{"config": "vgg_bn:base", "planned": None, "seed": 0, "curves": points}]
    made, missing = draw_all(tmp_path, lines, tmp_path / "claims.md")
    assert missing == ["three_conv"]
    assert [caption.partition(":")[0] for _, caption in made] == ["`wide-short`"] * 2 + ["`vgg_bn`"] + ["`mlp`"] * 2
    for name, _ in made:
        with Image.open(tmp_path / f"claims_{name}.png") as picture:
            assert np.asarray(picture.convert("L")).std() > 5, name  # not blank
    page = page_of(made, "claims")
    assert page.count("](claims_") == len(made)
    assert re.findall(r"\(#(.*?)\)", page) == [
        heading.lower().replace(" ", "-").replace(",", "") for heading in re.findall("^##? (.*)$", page, re.MULTILINE)
    ]

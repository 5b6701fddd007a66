import dataclasses
import io
import threading

import jax
import numpy as np
import pytest
import scipy.special
from PIL import Image

import cifar_flax.serving.classifier as module
from cifar_flax.errors import UserError
from cifar_flax.serving.classifier import Classifier, Fit
from cifar_flax.serving.errors import UnreadableImage


def pixels(height, width, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


def reference(source, views, flip=False):
    """Probabilities by NumPy and SciPy from the module's own logits."""
    known = source.preprocessing

    def logits(images):
        normal = (images / 255 - np.array(known.mean)) / np.array(known.std)
        return np.asarray(source.model.apply(source.weights, normal.astype(np.float32), train=False), np.float64)

    found = (logits(views) + logits(views[:, :, ::-1])) / 2 if flip else logits(views)
    return scipy.special.softmax(found, 1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_probabilities_are_the_softmax_of_the_networks_logits(source, flip, batch_size):
    views = pixels(70, 8).reshape(70, 8, 1, 3).repeat(8, 2) ^ pixels(8, 8, 1)
    found = Classifier(source, flip=flip, batch_size=batch_size).probabilities(views)
    assert (found.dtype, found.shape) == (np.float32, (70, 10))
    np.testing.assert_allclose(found, reference(source, views, flip), rtol=2e-4, atol=1e-6)


def test_a_picture_gets_the_same_answer_alone_and_in_company(source):
    classifier, views = Classifier(source, batch_size=4), np.stack([pixels(8, 8, seed) for seed in range(6)])
    together = classifier.probabilities(views)
    for view, probabilities in zip(views, together, strict=True):
        np.testing.assert_array_equal(classifier.probabilities(view[None])[0], probabilities)
    assert classifier.probabilities(views[:0]).shape == (0, 10)


def test_predictions_are_ranked_with_their_superclasses(source, classifier):
    array = pixels(8, 8)
    expected = reference(source, array[None])[0]
    found = classifier.classify(array, top=4)
    assert [p.name for p in found] == [f"line_{k}" for k in np.argsort(-expected)[:4]]
    assert [p.superclass for p in found] == [("rows", "columns")[k // 5] for k in np.argsort(-expected)[:4]]
    np.testing.assert_allclose([p.probability for p in found], np.sort(expected)[::-1][:4], rtol=1e-4)
    assert len(classifier.classify(array, top=50)) == 10


def test_classes_need_no_superclasses(make_source):
    assert {p.superclass for p in Classifier(make_source(coarse=False)).classify(pixels(9, 9))} == {None}


def test_a_path_bytes_a_pillow_image_and_an_array_are_the_same_picture(classifier, tmp_path):
    array = pixels(20, 30)
    (tmp_path / "a.png").write_bytes(png(array))
    views = [
        classifier.view(picture)
        for picture in (tmp_path / "a.png", str(tmp_path / "a.png"), png(array), Image.fromarray(array), array)
    ]
    for view in views:
        np.testing.assert_array_equal(view, views[0])
    grey = pixels(20, 20, channels=1)
    np.testing.assert_array_equal(classifier.view(grey), classifier.view(grey[..., 0]))
    opaque = np.dstack([array, np.full((20, 30), 255, np.uint8)])
    np.testing.assert_array_equal(classifier.view(opaque), views[0])
    assert classifier.view(np.zeros((20, 30, 4), np.uint8)).min() == 255  # nothing but transparency, over white


def test_a_picture_of_the_networks_size_stays_as_it_is(classifier):
    array = pixels(8, 8)
    for fit in Fit:
        classifier.fit = fit
        np.testing.assert_array_equal(classifier.view(array), array)


def test_the_three_fits(source):
    wide = np.full((40, 80, 3), 200, np.uint8)
    wide[:, :20], wide[:, -20:] = 10, 90  # a left and a right quarter of their own
    crop, squash, pad = (Classifier(source, fit).view(wide).astype(int) for fit in Fit)
    assert abs(crop[:, 1:-1] - 200).max() <= 2  # the quarters are outside; at the seams the filter reaches a little over them
    np.testing.assert_allclose(squash[4, [0, 3, 4, 7], 0], [10, 200, 200, 90], atol=10)
    assert (pad[[0, 1, 6, 7]] == np.round(255 * np.array([0.5, 0.4, 0.3]))).all()
    np.testing.assert_allclose(pad[3, [0, 3, 4, 7], 0], [10, 200, 200, 90], atol=10)


@pytest.mark.parametrize("fit", Fit)
def test_thin_pictures_are_seen(source, fit):
    line = Image.new("RGB", (4000, 8), (250, 0, 0))
    view = Classifier(source, fit).view(line)
    assert view.shape == (8, 8, 3)
    assert (view[..., 0].max(), view[..., 1].min()) == (250, 0)


def test_shrinking_does_not_alias(classifier):
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(classifier.view(stripes).astype(int) - 127.5).max() < 4


def test_a_network_for_grey_pictures_sees_luminance(make_source):
    classifier = Classifier(make_source(image_shape=(8, 8, 1)))
    array = pixels(8, 8)
    expected = array @ np.array([299, 587, 114]) / 1000
    np.testing.assert_allclose(classifier.view(array)[..., 0], expected, atol=0.6)
    assert len(classifier.classify(array)) == 5
    classifier.fit = Fit.PAD
    assert classifier.view(np.zeros((10, 20, 3), np.uint8))[0, 0] == 128


def test_threads_share_one_program(source, monkeypatch):
    compiled = []
    monkeypatch.setattr(module, "compiler_options", lambda dtype: compiled.append(dtype) or {})
    classifier, found = Classifier(source), {}
    views = np.stack([pixels(8, 8, seed) for seed in range(40)])
    expected = classifier.probabilities(views)

    def work(k):
        found[k] = classifier.probabilities(views[k : k + 1])[0]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack([found[k] for k in range(40)]), expected)
    assert len(compiled) == 1


def test_a_network_whose_training_diverged_is_refused(source):
    diverged = dataclasses.replace(source, weights=jax.tree.map(lambda weight: weight * np.nan, source.weights))
    with pytest.raises(UserError, match="diverged"):
        Classifier(diverged)


def test_what_is_no_picture_is_refused(classifier, tmp_path):
    with pytest.raises(UnreadableImage):
        classifier.classify(b"no picture")
    with pytest.raises(FileNotFoundError):
        classifier.classify(tmp_path / "none.png")

import io
import threading

import jax
import numpy as np
import pytest
import scipy.special
from PIL import Image

import cifar_flax
from cifar_flax.data.dataset import Dataset
from cifar_flax.errors import UserError
from cifar_flax.network import Network
from cifar_flax.run import load_network
from cifar_flax.runtime.flag_values import Fit
from tests.conftest import TINY_TEST_IMAGES, tiny_split


def pixels(height, width, seed=0, channels=3):
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def png(array):
    out = io.BytesIO()
    Image.fromarray(array).save(out, "PNG")
    return out.getvalue()


@pytest.fixture(scope="module")
def network(make_network):
    return make_network()


def reference(network, images, flip=False):
    """Probabilities by NumPy and SciPy from the module's own logits."""
    p = network.preprocessing

    def logits(images):
        normal = (images / 255 - np.array(p.mean)) / np.array(p.std)
        return np.asarray(network.model.apply(network.variables, normal.astype(np.float32), train=False), np.float64)

    return scipy.special.softmax((logits(images) + logits(images[:, :, ::-1])) / 2 if flip else logits(images), 1)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("batch", [1, 4, 100])
def test_probabilities_are_the_softmax_of_the_logits(make_network, flip, batch):
    network = make_network()
    network.picture_batch = batch
    images = pixels(70, 8).reshape(70, 8, 1, 3).repeat(8, 2) ^ pixels(8, 8, 1)
    actual = network.probabilities(images, flip)
    assert (actual.dtype, actual.shape) == (np.float32, (70, 10))
    np.testing.assert_allclose(actual, reference(network, images, flip), rtol=2e-4, atol=1e-6)


@pytest.mark.parametrize(("on_cpu", "batch"), [(False, 4), (True, 4), (True, 5)])  # 5 and then 1, which is computed alone
def test_a_picture_gets_the_same_probabilities_alone_and_in_company(make_network, on_cpu, batch):
    network, images = make_network(), np.stack([pixels(8, 8, seed) for seed in range(6)])
    network.picture_batch, network._on_cpu = batch, on_cpu
    for image, probabilities in zip(images, network.probabilities(images), strict=True):
        np.testing.assert_allclose(network.probabilities(image[None])[0], probabilities, rtol=1e-5)
    assert network.probabilities(images[:0]).shape == (0, 10)


def test_predictions_are_ranked_with_their_superclasses(network):
    array = pixels(8, 8)
    expected = reference(network, array[None])[0]
    actual = network.predict(array, top=4)
    assert [p.name for p in actual] == [f"line_{k}" for k in np.argsort(-expected)[:4]]
    assert [p.superclass for p in actual] == [("rows", "columns")[k // 5] for k in np.argsort(-expected)[:4]]
    np.testing.assert_allclose([p.probability for p in actual], np.sort(expected)[::-1][:4], rtol=1e-4)
    assert len(network.predict(array, top=50)) == 10


def test_classes_need_no_superclasses(make_network):
    assert {p.superclass for p in make_network(coarse=False).predict(pixels(9, 9))} == {None}


def test_every_kind_of_picture_is_seen_alike(network, tmp_path):
    array = pixels(20, 30)
    (tmp_path / "a.png").write_bytes(png(array))
    opaque = np.dstack([array, np.full((20, 30), 255, np.uint8)])
    pictures = [tmp_path / "a.png", str(tmp_path / "a.png"), png(array), Image.fromarray(array), array, opaque]
    assert network.predict(io.BytesIO(png(array))) == network.predict(array)
    with (tmp_path / "a.png").open("rb") as file:
        assert network.predict([array, file]) == network.predict([array, array])
    for picture in pictures:
        np.testing.assert_array_equal(network.view(picture), network.view(array))
        assert network.predict(picture) == network.predict(array)
    assert network.predict(bytearray(png(array))) == network.predict(memoryview(png(array))) == network.predict(array)
    grey = pixels(20, 20, channels=1)
    np.testing.assert_array_equal(network.view(grey), network.view(grey[..., 0]))
    assert network.view(np.zeros((20, 30, 4), np.uint8)).min() == 255  # transparent pixels are over white


def test_several_pictures_are_predicted_in_their_order(network, tmp_path):
    arrays = [pixels(8, 8, seed) for seed in range(3)]
    (tmp_path / "below").mkdir()
    for name, array in zip(("a.png", "b.PNG", "below/c.png"), arrays, strict=True):
        (tmp_path / name).write_bytes(png(array))
    (tmp_path / ".hidden.png").write_bytes(png(arrays[0]))
    expected = [network.predict(array) for array in arrays]
    assert network.predict(np.stack(arrays)) == expected
    assert network.predict([arrays[0], png(arrays[1]), Image.fromarray(arrays[2])]) == expected
    assert network.predict(tmp_path) == network.predict(str(tmp_path)) == expected
    assert network.predict([]) == []


@pytest.mark.parametrize("fit", Fit)
def test_a_picture_of_the_networks_size_stays_as_it_is(network, fit):
    np.testing.assert_array_equal(network.view(pixels(8, 8), fit), pixels(8, 8))


def test_crop_cuts_squash_squeezes_and_pad_adds_the_mean(network):
    wide = np.full((40, 80, 3), 200, np.uint8)
    wide[:, :20], wide[:, -20:] = 10, 90
    crop, squash, pad = (network.view(wide, fit).astype(int) for fit in ("crop", "squash", "pad"))
    assert abs(crop[:, 1:-1] - 200).max() <= 2  # the quarters are outside; at the seams the filter reaches a little over them
    np.testing.assert_allclose(squash[4, [0, 3, 4, 7], 0], [10, 200, 200, 90], atol=10)
    assert (pad[[0, 1, 6, 7]] == np.round(255 * np.array([0.5, 0.4, 0.3]))).all()
    np.testing.assert_allclose(pad[3, [0, 3, 4, 7], 0], [10, 200, 200, 90], atol=10)


@pytest.mark.parametrize("fit", Fit)
def test_thin_pictures_are_seen(network, fit):
    view = network.view(Image.new("RGB", (4000, 8), (250, 0, 0)), fit)
    assert view.shape == (8, 8, 3)
    assert (view[..., 0].max(), view[..., 1].min()) == (250, 0)


def test_shrinking_does_not_alias(network):
    stripes = np.zeros((512, 512, 3), np.uint8)
    stripes[:, ::2] = 255
    assert abs(network.view(stripes).astype(int) - 127.5).max() < 4


def test_a_network_for_grey_pictures_sees_luminance(make_network):
    network, array = make_network(image_shape=(8, 8, 1)), pixels(8, 8)
    np.testing.assert_allclose(network.view(array)[..., 0], array @ np.array([299, 587, 114]) / 1000, atol=0.6)
    assert len(network.predict(array)) == 5
    assert network.view(np.zeros((10, 20, 3), np.uint8), Fit.PAD)[0, 0] == 128


def test_threads_share_a_network(make_network):
    network, actual = make_network(), {}
    images = np.stack([pixels(8, 8, seed) for seed in range(40)])
    expected = [network.probabilities(images[k : k + 1]) for k in range(40)]

    def work(k):
        actual[k] = network.probabilities(images[k : k + 1])[0]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    np.testing.assert_array_equal(np.stack([actual[k] for k in range(40)]), np.concatenate(expected))


def test_a_network_that_diverged_makes_no_predictions(network):
    variables = jax.tree.map(lambda weight: weight * np.nan, network.variables)
    diverged = Network(network.config, network.preprocessing, variables, "tiny")
    with pytest.raises(UserError, match=r"tiny: .*diverged"):
        diverged.predict(pixels(8, 8))


@pytest.mark.parametrize(
    ("picture", "message"),
    [
        (b"no picture", "the picture: That is not a picture, or of a kind that is not read"),
        ("none.png", r"none\.png: No such file or directory"),
        (np.zeros((8, 8, 2), np.uint8), r"uint8 \(8, 8, 2\) is no picture; expected uint8 \[H, W\]"),
        (np.zeros((8, 8, 3)), r"float64 \(8, 8, 3\) is no picture"),
        (None, "^NoneType is no picture; expected a path, an open file or its bytes, a Pillow image or a NumPy array"),
        ([0.5], "^float is no picture"),
        ({"a.png": 1}, "^dict is no picture"),
        (io.BytesIO(), "^the picture: The file is empty"),
        (io.StringIO("a"), "^StringIO gives text; open a picture in binary mode"),
        (np.zeros((0, 0, 3), np.uint8), r"^uint8 \(0, 0, 3\) is no picture"),
        (np.zeros((5, 0), np.uint8), r"^uint8 \(5, 0\) is no picture"),
        (Image.new("RGB", (0, 5)), "^a Pillow image of 0 x 5 pixels is no picture"),
    ],
)
def test_what_is_no_picture_is_refused_in_a_line(network, picture, message):
    with pytest.raises(UserError, match=message):
        network.predict(picture)


@pytest.mark.parametrize("spoil", [lambda image: image.fp.truncate(900), Image.Image.close], ids=["cut short", "closed"])
def test_a_pillow_image_that_cannot_be_decoded_is_refused_in_a_line(network, spoil):
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(file, "PNG")
    image = Image.open(file)
    spoil(image)
    with pytest.raises(UserError, match=r"^the Pillow image cannot be read \(\w+: .*\); open its file again$"):
        network.predict(image)


@pytest.mark.parametrize("top", [0, -1, 2.0, True, None])
def test_a_number_of_classes_below_one_is_refused(network, top):
    with pytest.raises(UserError, match=f"^top={top}: expected a whole number, 1 or more$"):
        network.predict(pixels(8, 8), top=top)


def test_an_unknown_fit_is_refused(network):
    with pytest.raises(UserError, match="no fit 'stretch'; expected one of crop, squash, pad"):
        network.view(pixels(9, 9), "stretch")


def test_a_folder_without_pictures_is_refused(network, tmp_path):
    with pytest.raises(UserError, match="no pictures in this folder"):
        network.predict(tmp_path)
    (tmp_path / "a.HEIC").write_bytes(b"")
    with pytest.raises(UserError, match="no pictures in this folder, but HEIC photographs, which are not read: save"):
        network.predict(tmp_path)


def test_scores_are_those_of_the_networks_logits(network):
    split = tiny_split(45, 1)  # not a multiple of the batch size
    labelled = Dataset(split.images, split.labels, network.class_names)
    actual = network.evaluate(labelled)
    probs = reference(network, split.images)
    assert actual["n"] == 45
    assert actual["top1"] == (probs.argmax(1) == split.labels).mean()
    assert actual["loss"] == pytest.approx(-np.log(probs[np.arange(45), split.labels]).mean(), rel=1e-4)


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize(
    ("labels", "problem"),
    [
        ([0, 1, -1], r"labels go from -1 to 1, expected 0 to 9"),
        ([0, 1, 10], r"labels go from 0 to 10, expected 0 to 9"),
        ([0, 1], r"labels are int64 \(2,\), expected integers \(3,\)"),
        ([[0], [1], [2]], r"labels are int64 \(3, 1\), expected integers \(3,\)"),
        ([0.0, 1.0, 2.0], r"labels are float64 \(3,\), expected integers"),
    ],
)
def test_labels_that_are_none_are_refused_in_any_order_of_the_classes(network, labels, problem, turned):
    names = network.class_names[::-1] if turned else network.class_names
    data = Dataset(np.zeros((3, *network.preprocessing.image_shape), np.uint8), labels, names)
    with pytest.raises(UserError, match=f"^the data set: {problem}"):
        network.evaluate(data)


def test_what_is_no_data_set_is_refused(network):
    with pytest.raises(UserError, match=r"^NoneType is no data; expected the name of a split, or a cifar_flax\.data\.Dataset"):
        network.evaluate(None)


def test_other_classes_are_not_scored(network):
    with pytest.raises(UserError, match=r"classes line 0, .*; tiny was trained on line_0, .*\. Nothing was scored\."):
        network.evaluate(tiny_split(45, 1))


def test_images_of_another_shape_or_dtype_are_refused(network):
    for images in (pixels(9, 8)[None], pixels(8, 8)[None].astype(np.float32), pixels(8, 8)[None][:0]):
        with pytest.raises(UserError, match=r"expected uint8 \[N, 8, 8, 3\], N > 0"):
            network.logits(images)
    for images in (pixels(9, 8)[None], pixels(8, 8)[None].astype(np.float32), pixels(8, 8), [pixels(8, 8)]):
        with pytest.raises(UserError, match=r"tiny: images are .*; expected uint8 \[N, 8, 8, 3\]$"):
            network.probabilities(images)
    with pytest.raises(UserError, match="expected one of none, flip, flip\\+shift"):
        network.logits(pixels(8, 8)[None], tta="crop")


def test_a_network_says_what_it_is(network):
    assert repr(network) == "<Network tiny: convnet, 2,466 parameters, 8x8x3 -> 10 classes>"


def test_a_network_is_loaded_from_wherever_it_is(tiny_run, tmp_path, tiny_data):
    from cifar_flax.pretrained.weights import write_weights

    run = load_network(tiny_run)
    assert (run.name, run.step) == (tiny_run.name, cifar_flax.Run.open(tiny_run).step("best"))
    write_weights(tmp_path / "net.safetensors", run, dtype="float32")
    test = tiny_split(TINY_TEST_IMAGES, 1)
    np.testing.assert_array_equal(load_network(tmp_path / "net.safetensors").logits(test.images), run.logits(test.images))
    assert load_network("fast").class_names == load_network("pretrained:fast").class_names
    with pytest.raises(UserError, match=r"^https://x/y\.safetensors: no network is downloaded from an address"):
        load_network("https://x/y.safetensors")
    with pytest.raises(UserError, match=r"nowhere: no such network; expected a run directory, .* or one of fast"):
        load_network("nowhere")

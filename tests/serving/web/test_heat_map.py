import matplotlib as mpl
import numpy as np
import pytest

from cifar_flax.serving.web.heat_map import CIVIDIS, Explainer, draw


def test_the_colours_are_cividis():
    expected = mpl.colormaps["cividis"](np.linspace(0, 1, len(CIVIDIS)))[:, :3] * 255
    np.testing.assert_allclose(CIVIDIS, expected, atol=0.5)


@pytest.mark.parametrize("channels", [1, 3])
def test_the_heat_lies_over_what_the_network_sees(channels):
    image, heat = np.zeros((16, 32, channels), np.uint8), np.zeros((16, 32), np.float32)
    image[:8], heat[:, 16:] = 255, 1
    drawn = draw(image, heat)
    assert drawn.size == (320, 160)
    corners = [drawn.getpixel((x, y)) for y in (0, 159) for x in (0, 319)]
    lit = [np.clip(np.array(heat) + grey, 0, 255) for grey in (38.25, -38.25) for heat in ([0, 34, 78], [254, 232, 56])]
    np.testing.assert_allclose(corners, lit, atol=1)


@pytest.mark.parametrize("grey", [0, 128, 255])
def test_where_there_is_no_heat_a_picture_without_contrast_has_the_colour_of_none(grey):
    drawn = draw(np.full((8, 8, 3), grey, np.uint8), np.zeros((8, 8), np.float32))
    assert drawn.getpixel((0, 0)) == (0, 34, 78)


def test_a_method_that_could_not_be_compiled_is_compiled_again_for_the_next_picture(make_network, monkeypatch):
    network = make_network()
    explainer, compile_explanation = Explainer(network), network.compile_explanation

    def fail(*args):
        monkeypatch.setattr(network, "compile_explanation", compile_explanation)
        raise RuntimeError("RESOURCE_EXHAUSTED: out of memory")

    monkeypatch.setattr(network, "compile_explanation", fail)
    image = np.zeros(network.preprocessing.image_shape, np.uint8)
    with pytest.raises(RuntimeError, match="out of memory"):
        explainer.heat_map(image, 0, "saliency")
    assert explainer.heat_map(image, 0, "saliency").picture.size == (320, 320)

import numpy as np

from cifar_flax.training.first_layer import SCALE, first_layer_picture


def test_filters_stand_in_rows_of_eight_each_scaled_by_its_largest_weight():
    kernel = np.zeros((2, 2, 3, 10), np.float32)
    kernel[0, 0, :, 0] = (0.5, 0, -0.5)
    kernel[1, 1, 0, 9] = 3.0
    params = {"deep": {"kernel": np.ones((2, 2, 10, 4))}, "stem": {"kernel": kernel, "bias": np.zeros(10)}}
    picture = first_layer_picture(params, (8, 8, 3))
    cell = 2 * SCALE + 2
    assert picture.shape == (2 * cell, 8 * cell, 3)
    assert picture.dtype == np.uint8
    np.testing.assert_array_equal(picture[0, 0], (255, 128, 0))
    np.testing.assert_array_equal(picture[cell + SCALE, cell + SCALE], (255, 128, 128))
    np.testing.assert_array_equal(picture[:, 2 * SCALE], np.full((2 * cell, 3), 255))


def test_units_of_a_dense_layer_are_shown_as_images():
    kernel = np.arange(8 * 8 * 3 * 5, dtype=np.float32).reshape(192, 5)
    picture = first_layer_picture({"dense0": {"kernel": kernel}, "logits": {"kernel": np.ones((5, 10))}}, (8, 8, 3))
    assert picture.shape == (8 * SCALE + 2, 5 * (8 * SCALE + 2), 3)


def test_without_a_layer_that_sees_the_image_there_is_no_picture():
    assert first_layer_picture({"logits": {"kernel": np.ones((5, 10))}}, (8, 8, 3)) is None
    assert first_layer_picture({"conv": {"kernel": np.ones((3, 3, 2, 4))}}, (8, 8, 2)) is None

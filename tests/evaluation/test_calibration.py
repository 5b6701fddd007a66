import numpy as np
import pytest
from scipy import optimize

from cifar_flax.evaluation.calibration import MAX_TEMPERATURE, fit_temperature
from cifar_flax.evaluation.scores import log_softmax, probabilities, reliability


@pytest.fixture
def calibrated(rng):
    """Logits of 20,000 images, and labels drawn by their softmax."""
    logits = rng.normal(0, 2, (20_000, 10)).astype(np.float32)
    draws = rng.gumbel(size=logits.shape)
    return logits, (logits + draws).argmax(1).astype(np.int32)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("temperature", [0.2, 1.0, 5.0])
def test_the_temperature_that_logits_were_multiplied_by_is_found(calibrated, temperature):
    logits, labels = calibrated
    fitted = fit_temperature(logits * np.float32(temperature), labels)
    assert fitted == pytest.approx(temperature, rel=0.02)
    assert reliability(probabilities(logits * np.float32(temperature / fitted)), labels).ece < 0.01


def test_it_is_the_minimum_of_the_loss_with_an_image_of_every_class_beside(calibrated):
    logits, labels = calibrated[0][:200], calibrated[1][:200]

    def loss(temperature):
        log_probs = log_softmax(logits / temperature)
        return -log_probs[np.arange(200), labels].sum() - log_probs.mean()

    expected = optimize.minimize_scalar(loss, (0.1, 1, 10)).x
    assert fit_temperature(logits, labels) == pytest.approx(expected, rel=1e-3)


def test_few_images_that_are_all_right_do_not_make_a_network_certain():
    logits = np.eye(4, dtype=np.float32)
    confidence = probabilities(logits / fit_temperature(logits, np.arange(4))).max()
    assert 0.5 < confidence < 0.95


def test_a_network_that_is_worse_than_chance_becomes_undecided(rng):
    logits = rng.normal(size=(500, 5)).astype(np.float32)
    assert fit_temperature(logits, logits.argmin(1)) == MAX_TEMPERATURE


@pytest.mark.parametrize("logits", [np.zeros((3, 2), np.float32), np.full((3, 2), np.nan, np.float32)])
def test_logits_that_say_nothing_stay_as_they_are(logits):
    assert fit_temperature(logits, np.array([0, 1, 0])) == 1

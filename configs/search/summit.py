"""A search for `summit:minute` and `summit`: rates, averaging, smoothing and how many images are mixed.

    python launch/search.py --config=configs/summit.py:minute --space=configs/search/summit.py --strategy=tpe --trials=40 \
        --config.data.validation_fraction=.1 --config.train.epochs=30 --config.optim.warmup_epochs=5 --max_minutes=12

A quarter of the epochs of `:minute`, and 40 trials: meant for twelve minutes of an NVIDIA H200, where it has not been run.
The spans hold the values of `summit`, `fast` and `fast:long`.
"""

from cifar_flax.search.space import Choice, Domain, LogUniform, Uniform


def get_space() -> dict[str, Domain]:
    return {
        "optim.learning_rate": LogUniform(0.05, 3.0),
        "optim.muon.learning_rate": LogUniform(0.05, 0.4),
        "optim.ema_decay": Choice((0.98, 0.99, 0.995, 0.998)),
        "optim.label_smoothing": Uniform(0.0, 0.4),
        "augment.mix_probability": Choice((0.0, 0.25, 0.5, 1.0)),
        "augment.crop_padding": Choice((2, 4)),
    }

"""A first search for any network, data set and optimizer: learning rate, label smoothing and batch size.

python launch/search.py --config=configs/quickstart.py --space=configs/search/learning_rate.py --strategy=tpe --trials=20
"""

from cifar_flax.search.space import Choice, Domain, LogUniform, Uniform


def get_space() -> dict[str, Domain]:
    return {
        "optim.learning_rate": LogUniform(3e-4, 3e-2),
        "optim.label_smoothing": Uniform(0.0, 0.2),
        "train.batch_size": Choice((32, 64, 128)),
    }

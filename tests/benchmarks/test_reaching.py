from benchmarks.reaching import Reached, reached

EPOCHS = [
    {"epoch": epoch, "elapsed": 100.0 * epoch, "compilation": 12.5 * epoch, "validation_top1": top1}
    for epoch, top1 in enumerate((0.3, 0.66, 0.64, 0.7), 1)
]


def never():
    raise AssertionError("test is not opened where there is validation")


def test_the_first_epoch_that_reaches_it_counts():
    actual = reached(0.65, EPOCHS, never)
    assert actual == Reached(epoch=2, top1=0.66, elapsed=200.0, compilation=25.0)
    assert actual.seconds == 175
    assert reached(0.71, EPOCHS, never) is None


def test_without_validation_it_is_the_last_checkpoint_on_test():
    epochs = [{name: value for name, value in record.items() if name != "validation_top1"} for record in EPOCHS]
    assert reached(0.65, epochs, lambda: 0.65) == Reached(4, 0.65, 400.0, 50.0)
    assert reached(0.65, epochs, lambda: 0.649) is None

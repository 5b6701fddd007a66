import pytest

from benchmarks.ratios import ratios, training_flops
from benchmarks.timing import in_turns, rounds, speeds, time_steps

SPEEDS = {"ours": 240.0, "ours_f32": 90.0, "plain_jit": 45.0}
TORCH = {"torch_eager": 100.0, "torch_compiled": 120.0, "torch_bf16_eager": 300.0, "torch_bf16_compiled": 280.0}
KERAS = {"keras_graph": 60.0, "keras_xla": 150.0, "keras_bf16_graph": 200.0, "keras_bf16_xla": 100.0}


def test_the_fastest_form_of_each_framework_counts_in_float32_and_in_any_dtype():
    assert ratios({**SPEEDS, **TORCH, **KERAS}, "wide") == pytest.approx(
        {
            "wide_ratio_plain_jit": 2.0,
            "wide_ratio_torch_f32": 0.75,
            "wide_ratio_keras_f32": 0.6,
            "wide_ratio_best_f32": 0.6,
            "wide_ratio_torch_bf16": 0.8,
            "wide_ratio_keras_bf16": 1.2,
            "wide_ratio_best": 0.8,
        }
    )


def test_a_peer_that_is_faster_in_float32_counts_by_that():
    assert ratios({**SPEEDS, **TORCH, **KERAS, "keras_xla": 480.0}, "wide")["wide_ratio_best"] == 0.5


def test_the_best_is_not_named_where_one_of_them_was_not_measured():
    actual = ratios({**SPEEDS, **TORCH}, "fast")
    assert actual["fast_ratio_torch_f32"] == 0.75
    assert not {"fast_ratio_best", "fast_ratio_best_f32", "fast_ratio_keras_f32"} & set(actual)


def test_speeds_are_those_of_the_median_round():
    assert speeds({"a": [2.0, 1.0, 100.0], "b": [4.0, 4.0, 4.0]}, 64) == {"a": 32, "b": 16}


def test_a_round_is_as_if_there_had_been_no_other():
    assert rounds({"a": [2.0, 1.0], "b": [4.0, 5.0]}) == [{"a": [2.0], "b": [4.0]}, {"a": [1.0], "b": [5.0]}]


def test_training_takes_three_forward_passes():
    assert training_flops(10) == 60


def test_variants_take_turns():
    order = []
    variants = {name: lambda name=name: order.append(name) or float(len(order)) for name in "abc"}
    assert in_turns(variants, 2) == {"a": [1, 4], "b": [2, 5], "c": [3, 6]}
    assert "".join(order) == "abcabc"


def test_the_first_step_of_a_turn_is_not_counted(monkeypatch):
    now = 0.0

    def step():
        nonlocal now
        now += 100 if now == 0 else 2

    monkeypatch.setattr("time.perf_counter", lambda: now)
    assert time_steps(step, 3) == 2
    assert now == 106

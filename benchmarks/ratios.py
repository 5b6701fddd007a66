"""What the speeds of the variants come to: ratios, by name, and floating-point operations."""

from collections.abc import Mapping

# Name of the ratio -> the variants of which the fastest counts.
AGAINST: dict[str, tuple[str, ...]] = {
    "default_options": ("default_options",),
    "plain_jit": ("plain_jit",),
    "torch_f32": ("torch_eager", "torch_compiled"),
    "keras": ("keras_graph", "keras_xla"),
    "best_f32": ("torch_eager", "torch_compiled", "keras_graph", "keras_xla"),
    "torch_bf16": ("torch_bf16_eager", "torch_bf16_compiled"),
}


def ratios(speeds: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Ours over theirs, such as {"wide_ratio_torch_f32": .9}: above 1 ours is faster.

    Args:
      speeds: images a second by variant; what was not measured is not there, and `best_f32` only where both others are.
      prefix: such as "wide".
    """
    found: dict[str, float] = {}
    for name, variants in AGAINST.items():
        measured = [speeds[variant] for variant in variants if variant in speeds]
        complete = name != "best_f32" or all(f"{prefix}_ratio_{one}" in found for one in ("torch_f32", "keras"))
        if measured and complete:
            found[f"{prefix}_ratio_{name}"] = speeds["ours"] / max(measured)
    return found


def training_flops(multiply_adds: int) -> int:
    """Floating-point operations of a training step, per image.

    Two a multiply-add; the gradients by activations and those by parameters cost as much as the forward pass each.
    """
    return 3 * 2 * multiply_adds

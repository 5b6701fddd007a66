"""Named ratios of speeds, and floating-point operations of a training step."""

from collections.abc import Mapping

# Name of the ratio -> variants, of which the fastest is compared with ours.
AGAINST: dict[str, tuple[str, ...]] = {
    "default_options": ("default_options",),
    "plain_jit": ("plain_jit",),
    "torch_f32": ("torch_eager", "torch_compiled"),
    "keras": ("keras_graph", "keras_xla"),
    "best_f32": ("torch_eager", "torch_compiled", "keras_graph", "keras_xla"),
    "torch_bf16": ("torch_bf16_eager", "torch_bf16_compiled"),
}


def ratios(speeds: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Divides our speed by those of others: {"wide_ratio_torch_f32": .9, ...}; above 1 ours is faster.

    Args:
      speeds: images per second of the variants measured.
      prefix: of the names, such as "wide".

    Returns:
      Ratios to the variants that were measured; `best_f32` only where PyTorch and Keras both were.
    """
    ratio_of: dict[str, float] = {}
    for name, variants in AGAINST.items():
        measured = [speeds[variant] for variant in variants if variant in speeds]
        complete = name != "best_f32" or all(f"{prefix}_ratio_{one}" in ratio_of for one in ("torch_f32", "keras"))
        if measured and complete:
            ratio_of[f"{prefix}_ratio_{name}"] = speeds["ours"] / max(measured)
    return ratio_of


def training_flops(multiply_adds: int) -> int:
    """Counts the floating-point operations of a training step, per image.

    A multiply-add is two operations. Gradients of activations and of parameters each cost as much as the forward pass.
    """
    return 3 * 2 * multiply_adds

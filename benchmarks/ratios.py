"""Named ratios of speeds, and floating-point operations of a training step."""

from collections.abc import Mapping

TORCH, TORCH_BF16 = ("torch_eager", "torch_compiled"), ("torch_bf16_eager", "torch_bf16_compiled")
KERAS, KERAS_BF16 = ("keras_graph", "keras_xla"), ("keras_bf16_graph", "keras_bf16_xla")

# Name of the ratio -> which of ours, and the variants of which the fastest is compared with it.
AGAINST: dict[str, tuple[str, tuple[str, ...]]] = {
    "default_options": ("ours_f32", ("default_options",)),
    "plain_jit": ("ours_f32", ("plain_jit",)),
    "torch_f32": ("ours_f32", TORCH),
    "keras_f32": ("ours_f32", KERAS),
    "best_f32": ("ours_f32", TORCH + KERAS),
    "torch_bf16": ("ours", TORCH_BF16),
    "keras_bf16": ("ours", KERAS_BF16),
    "best": ("ours", TORCH + TORCH_BF16 + KERAS + KERAS_BF16),
}
OF_ALL = {"best_f32": ("torch_f32", "keras_f32"), "best": ("torch_bf16", "keras_bf16")}  # ratio -> those that it needs


def ratios(speeds: Mapping[str, float], prefix: str) -> dict[str, float]:
    """Divides our speed by those of others: {"wide_ratio_torch_f32": .9, ...}; above 1 ours is faster.

    Those that end in "_f32" and those to plain JAX are of float32 on both sides; in the others ours takes its fastest dtype,
    and so do the peers in "best".

    Args:
      speeds: images per second of the variants measured.
      prefix: of the names, such as "wide".

    Returns:
      Ratios to the variants that were measured; `best` and `best_f32` only where PyTorch and Keras both were.
    """
    ratio_of: dict[str, float] = {}
    for name, (ours, variants) in AGAINST.items():
        measured = [speeds[variant] for variant in variants if variant in speeds]
        complete = all(f"{prefix}_ratio_{one}" in ratio_of for one in OF_ALL.get(name, ()))
        if measured and complete:
            ratio_of[f"{prefix}_ratio_{name}"] = speeds[ours] / max(measured)
    return ratio_of


def training_flops(multiply_adds: int) -> int:
    """Counts the floating-point operations of a training step, per image.

    A multiply-add is two operations. Gradients of activations and of parameters each cost as much as the forward pass.
    """
    return 3 * 2 * multiply_adds

"""Pictures that cannot be read."""

from cifar_flax.errors import UserError


class UnreadableImage(UserError):
    """The bytes are no picture, or one beyond the limits.

    Its message is a sentence for strangers: it holds no path and no repr.

    Attributes:
      code: short name of the reason, in snake_case, for scripts.
    """

    def __init__(self, sentence: str, code: str) -> None:
        super().__init__(sentence)
        self.code = code


class DecoderUnavailable(UserError):
    """The machine has no process or memory to spare for a picture."""

    code = "decoder_unavailable"

    def __init__(self) -> None:
        super().__init__("Pictures cannot be read at the moment. Please try again later.")

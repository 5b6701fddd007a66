"""What the demo refuses, each with the HTTP status, the short code and the one sentence that the sender gets."""

from cifar_flax.errors import UserError


class RequestError(UserError):
    """A picture or an address that cannot be used. Its message is for strangers: no path, no resolved address, no repr.

    Attributes:
      code: short name of the reason, snake_case, for scripts.
      status: the HTTP status that answers such a request: 4xx, or 503 where trying again later helps.
    """

    def __init__(self, sentence: str, code: str, status: int) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status


class UnreadableImage(RequestError):
    """The bytes are not a picture that can be read within the limits: status 413, 415 or 422."""


class FetchRefused(RequestError):
    """The address itself, or one that it redirects to, is not one that we ask: status 400."""


class FetchFailed(RequestError):
    """The other server did not answer, or not with a file within the limits: status 413 or 424."""

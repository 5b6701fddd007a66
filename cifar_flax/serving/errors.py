"""Refused requests, each with the HTTP status, the short code and the sentence that the sender gets."""

from cifar_flax.errors import UserError

# HTTP statuses by the code of a picture that cannot be read; of others it is 422.
STATUS_OF_PICTURE = {"not_an_image": 415, "too_many_pixels": 413, "decoder_unavailable": 503}


class RequestError(UserError):
    """A request or an address that cannot be used.

    Its message is for strangers: it holds no path, no resolved address and no repr.

    Attributes:
      code: short name of the reason, in snake_case, for scripts.
      status: HTTP status of the answer: 4xx, or 503 where trying again later helps.
    """

    def __init__(self, sentence: str, code: str, status: int) -> None:
        super().__init__(sentence)
        self.code = code
        self.status = status


class Busy(RequestError):
    """All places stayed taken: status 503."""

    def __init__(self) -> None:
        super().__init__("The server is busy. Please try again in a moment.", "busy", 503)


class FetchRefused(RequestError):
    """We do not ask this address, or one that it redirects to: status 400."""


class FetchFailed(RequestError):
    """The other server did not answer with a file within the limits: status 413 or 424."""

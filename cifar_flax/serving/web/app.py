"""The web application: one page, and the API under it, which openapi.yaml describes."""

import base64
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from typing import Any

from flask import Flask, Response, jsonify, render_template, request, send_file
from PIL import Image
from werkzeug.exceptions import HTTPException

from cifar_flax.data.pictures.decode import LARGE, LIMIT_CODES, SMALL
from cifar_flax.data.pictures.errors import DecoderUnavailable, UnreadableImage
from cifar_flax.data.pictures.fit import Fit, to_picture
from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.data.shapes100.classes import CATALOG
from cifar_flax.network import Network
from cifar_flax.serving.errors import STATUS_OF_PICTURE, RequestError
from cifar_flax.serving.fetch.client import FetchLimits, fetch
from cifar_flax.serving.formats import as_json
from cifar_flax.serving.web import request_parsing
from cifar_flax.serving.web.admission import Admission
from cifar_flax.serving.web.responses import HEADERS, error_body

PREVIEW = (640, 640)  # most pixels of the picture that is shown
SMALLEST = 8  # pixels; smaller ones, such as those that count visitors, show nothing
DAY = 86400  # seconds

SHAPES = frozenset(name for members in CATALOG.values() for name in members)
SHAPE_SAMPLES = ("butterfly", "sailboat", "spiral", "fir tree", "snowflake", "mug")  # static/samples/fir-tree.png
SCENE_SAMPLES = ("apple", "rocket", "sea", "skyscraper", "sunflower", "ship")


@dataclass(frozen=True)
class Options:
    """Limits of the application.

    Attributes:
      fit: as in `Network.predict`.
      flip: as in `Network.predict`.
      allow_private: whether addresses may lead into private networks: for intranets and tests.
      upload_bytes: largest request, and largest file at an address.
      fetching: addresses that are fetched at a time. One more is refused at once.
      classifying: pictures within `decode.SMALL` that are decoded and classified at a time; of larger ones it is one.
      queue_size: pictures that wait for their turn, each with its file in memory.
      large_queue_size: the same, for large ones.
      queue_timeout: seconds after which a waiting picture is refused.
    """

    fit: Fit = Fit.CROP
    flip: bool = False
    allow_private: bool = False
    upload_bytes: int = 10 * 2**20
    fetching: int = 16
    classifying: int = 4
    queue_size: int = 48
    large_queue_size: int = 4
    queue_timeout: float = 10.0

    @property
    def decoding(self) -> int:
        """Pictures that are decoded at a time."""
        return self.classifying + 1

    @property
    def threads(self) -> int:
        """Threads of the server: slow servers and large pictures, however many, leave some for other requests."""
        return self.fetching + (self.classifying + self.queue_size) + (1 + self.large_queue_size) + 8


def create_app(network: Network, decoder: IsolatedDecoder, options: Options = Options()) -> Flask:
    """Builds the application.

    Args:
      network: answers the requests; the page shows its name.
      decoder: reads the pictures; it needs `options.decoding` processes.
      options: limits.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = options.upload_bytes
    _serve_page(app, network)
    _serve_api(app, network, decoder, options)
    _answer_errors(app)

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    return app


def _serve_page(app: Flask, network: Network) -> None:
    preprocessing = network.preprocessing
    samples = SHAPE_SAMPLES if set(preprocessing.class_names) == SHAPES else SCENE_SAMPLES
    d3 = (files("mpld3") / "js" / "d3.v5.min.js").read_bytes()  # D3 5.7; mpld3 draws with it
    openapi = (files("cifar_flax.serving.web") / "openapi.yaml").read_bytes()

    @app.get("/")
    def page() -> str:
        return render_template("index.html", name=network.name, preprocessing=preprocessing, samples=samples)

    @app.get("/d3.js")
    def serve_d3() -> Response:
        return send_file(BytesIO(d3), "text/javascript", max_age=DAY)

    @app.get("/openapi.yaml")
    def serve_openapi() -> Response:
        return send_file(BytesIO(openapi), "application/yaml")


def _serve_api(app: Flask, network: Network, decoder: IsolatedDecoder, options: Options) -> None:
    preprocessing = network.preprocessing
    limits = FetchLimits(bytes=options.upload_bytes)
    fetching = Admission(options.fetching)
    classifying = Admission(options.classifying, options.queue_size, options.queue_timeout)
    classifying_large = Admission(1, options.large_queue_size, options.queue_timeout)

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(status="ok")

    @app.get("/api/model")
    def model() -> Response:
        names = enumerate(preprocessing.class_names)
        classes = [{"class": fine, "superclass": preprocessing.superclass(label)} for label, fine in names]
        shape = preprocessing.image_shape
        return jsonify(name=network.name, image_shape=shape, fit=options.fit, flip=options.flip, classes=classes)

    @app.post("/api/predict")
    def predict() -> Response:
        top, show = request_parsing.top(request), request.args.get("pictures") == "true"
        if request.mimetype == "application/json":
            url = request_parsing.address(request)
            with fetching:
                data = fetch(url, limits, options.allow_private)
        elif request.mimetype == "multipart/form-data":
            data = request_parsing.upload(request)
        else:
            raise RequestError("Expected JSON with an address, or a form with a file.", "unsupported_media_type", 415)
        try:
            with classifying:
                return jsonify(_answer(network, options, decoder.decode(data, SMALL), top, show))
        except UnreadableImage as e:
            if e.code not in LIMIT_CODES:
                raise
        with classifying_large:
            return jsonify(_answer(network, options, decoder.decode(data, LARGE), top, show))


def _answer(network: Network, options: Options, picture: Image.Image, top: int, show: bool) -> dict[str, Any]:
    if min(picture.size) < SMALLEST:
        sentence = f"The picture is {picture.width} x {picture.height} pixels; it needs at least {SMALLEST} in each direction."
        raise RequestError(sentence, "too_small", 422)
    seen = network.view(picture, options.fit)
    predictions = network.rank(network.probabilities(seen[None], options.flip)[0], top)
    answer: dict[str, Any] = {"predictions": [as_json(prediction) for prediction in predictions]}
    if show:
        picture.thumbnail(PREVIEW)
        answer["pictures"] = {"preview": _data_url(picture, "JPEG"), "seen": _data_url(to_picture(seen), "PNG")}
    return answer


def _data_url(picture: Image.Image, kind: str) -> str:
    out = BytesIO()
    picture.save(out, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def _answer_errors(app: Flask) -> None:
    """Answers every error in JSON, with a code and a sentence. The details of our own errors go to the log only."""

    @app.errorhandler(RequestError)
    def handle_refused(e: RequestError) -> Response:
        return _error(e.status, e.code, str(e))

    @app.errorhandler(UnreadableImage)
    @app.errorhandler(DecoderUnavailable)
    def handle_unreadable(e: UnreadableImage | DecoderUnavailable) -> Response:
        return _error(STATUS_OF_PICTURE.get(e.code, 422), e.code, str(e))

    @app.errorhandler(HTTPException)
    def handle_http(e: HTTPException) -> Response:
        status = e.code or 500
        if status == 413:
            megabytes = app.config["MAX_CONTENT_LENGTH"] / 2**20
            return _error(status, "too_large", f"The upload is too large. At most {megabytes:.0f} MB are taken.")
        response = _error(status, e.name.lower().replace(" ", "_"), e.description or f"{e.name}.")
        response.headers.extend((key, value) for key, value in e.get_headers() if key == "Allow")
        return response

    @app.errorhandler(Exception)
    def handle_unexpected(e: Exception) -> Response:
        app.logger.exception("%s %s", request.method, request.path)
        return _error(500, "internal_server_error", "Something went wrong here. It has been logged.")


def _error(status: int, code: str, message: str) -> Response:
    response = jsonify(error_body(code, message))
    response.status_code = status
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response

"""The web application: one page, and the API under it, which openapi.yaml describes."""

import base64
import ipaddress
import os
from dataclasses import dataclass, field, replace
from importlib.resources import files
from io import BytesIO
from typing import IO, Any

from flask import Flask, Response, jsonify, render_template, request, send_file
from PIL import Image
from werkzeug.exceptions import HTTPException

from cifar_flax.data.pictures.decode import LARGE, LIMIT_CODES, Limits
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
from cifar_flax.serving.web.sites import Hosts

PREVIEW = (640, 640)  # most pixels of the picture that is shown
SMALLEST = 8  # pixels; smaller ones, such as those that count visitors, show nothing
DAY = 86400  # seconds
# A file is decoded within QUICK, which is enough for pictures of a web page; one that takes more within MODERATE, when no other
# waits for its first turn; and one that takes still more within LARGE, one by one. A costly file so delays others little.
MODERATE = Limits(pixels=16_000_000, decoded_pixels=4_000_000, memory=128 * 2**20, cpu_seconds=0.3)
QUICK = replace(MODERATE, cpu_seconds=0.06)

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
      hosts: names of the server.
      upload_bytes: largest request, and largest file at an address.
      fetching: addresses that are fetched at a time. One more is refused at once.
      classifying: pictures within `MODERATE` that are decoded and classified at a time; of larger ones it is one.
      queue_size: pictures that wait for their turn.
      large_queue_size: the same, for large ones.
      queue_timeout: seconds after which a waiting picture is refused.
    """

    fit: Fit = Fit.CROP
    flip: bool = False
    allow_private: bool = False
    hosts: Hosts = field(default_factory=Hosts)
    upload_bytes: int = 10 * 2**20
    fetching: int = 16
    classifying: int = min(4, max(2, os.cpu_count() or 1))
    queue_size: int = 96
    large_queue_size: int = 8
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
    app.config["MAX_CONTENT_LENGTH"] = options.upload_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = request_parsing.FORM_BYTES
    app.config["MAX_FORM_PARTS"] = request_parsing.FORM_PARTS
    _serve_page(app, network)
    _serve_api(app, network, decoder, options)
    _answer_errors(app)

    @app.before_request
    def refuse_other_sites() -> None:
        options.hosts.check(request)

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
    fetch_limits = FetchLimits(bytes=options.upload_bytes)
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
        client = _client(request.remote_addr)
        if request.mimetype == "application/json":
            url = request_parsing.address(request)
            with fetching.place(client):
                file = request_parsing.keep(fetch(url, fetch_limits, options.allow_private))
        elif request.mimetype == "multipart/form-data":
            file = request_parsing.upload(request)
        else:
            raise RequestError("Expected JSON with an address, or a form with a file.", "unsupported_media_type", 415)
        for limits, gate, round_ in ((QUICK, classifying, 0), (MODERATE, classifying, 1), (LARGE, classifying_large, 0)):
            try:
                with gate.place(client, round_):
                    return jsonify(_answer(network, options, decoder.decode(_read(file), limits), top, show))
            except UnreadableImage as e:
                if e.code not in LIMIT_CODES or limits is LARGE:
                    raise
        raise AssertionError  # LARGE was the last


def _client(address: str | None) -> str:
    """Who asks, by IP address. Of IPv6 it is the network: each subscriber has 2**64 addresses."""
    ip = ipaddress.ip_address((address or "::").partition("%")[0])
    if ip.version == 4:
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.IPv6Network((ip, 64), strict=False))


def _read(file: IO[bytes]) -> bytes:
    """The whole file, which waits for its turn on disk, not in memory."""
    file.seek(0)
    return file.read()


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
            most = (request.max_content_length or 0) / 2**10
            size = f"{most / 2**10:.0f} MB" if most >= 2**10 else f"{most:.0f} kB"
            return _error(status, "too_large", f"The request is too large. At most {size} are taken.")
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

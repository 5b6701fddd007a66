"""The web application: one page, and the API under it, which openapi.yaml describes."""

import base64
from dataclasses import dataclass
from importlib.resources import files
from io import BytesIO
from typing import Any

from flask import Flask, Response, jsonify, render_template, request, send_file
from PIL import Image
from werkzeug.exceptions import HTTPException

from cifar_flax.data.resize import to_picture
from cifar_flax.serving.classifier import Classifier
from cifar_flax.serving.errors import RequestError
from cifar_flax.serving.fetch.client import FetchLimits, fetch
from cifar_flax.serving.formats import as_json
from cifar_flax.serving.images import decode
from cifar_flax.serving.web import request_parsing, samples
from cifar_flax.serving.web.admission import Gate
from cifar_flax.serving.web.responses import HEADERS, error_body

PREVIEW = (640, 640)  # pixels at most of the picture that is shown
DAY = 86400  # seconds


@dataclass(frozen=True)
class Options:
    """What the application allows itself and others.

    Attributes:
      allow_private: whether addresses may lead into private networks: for intranets and tests.
      upload_bytes: largest request, and largest file at an address.
      fetching: addresses that are fetched together. Whoever brings one more is told to come back at once.
      classifying: pictures that are decoded and classified together, of those that are not `large`; of the others it is one.
      line: who may wait for others' pictures, each with its file in memory.
      large_line: the same, for large ones.
      patience: seconds after which who waits in a line is told to come back.
    """

    allow_private: bool = False
    upload_bytes: int = 10 * 2**20
    fetching: int = 16
    classifying: int = 4
    line: int = 48
    large_line: int = 4
    patience: float = 10.0

    @property
    def threads(self) -> int:
        """How many the server needs so that slow servers and large pictures, however many, leave some for other requests."""
        return self.fetching + (self.classifying + self.line) + (1 + self.large_line) + 8


def create_app(classifier: Classifier, name: str, options: Options = Options()) -> Flask:
    """Builds the application.

    Args:
      classifier: what answers.
      name: of the network, for the page.
      options: limits.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = app.config["MAX_FORM_MEMORY_SIZE"] = options.upload_bytes
    _serve_page(app, classifier, name)
    _serve_api(app, classifier, name, options)
    _answer_errors(app)

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    return app


def _serve_page(app: Flask, classifier: Classifier, name: str) -> None:
    known = classifier.preprocessing
    pictures = {sample.slug: sample for sample in samples.draw(known.class_names)}
    d3 = (files("mpld3") / "js" / "d3.v5.min.js").read_bytes()  # D3 5.7; mpld3 draws with it
    openapi = (files("cifar_flax.serving.web") / "openapi.yaml").read_bytes()

    @app.get("/")
    def page() -> str:
        return render_template("index.html", name=name, known=known, samples=pictures.values())

    @app.get("/d3.js")
    def serve_d3() -> Response:
        return send_file(BytesIO(d3), "text/javascript", max_age=DAY)

    @app.get("/samples/<slug>.png")
    def sample(slug: str) -> Response:
        if slug not in pictures:
            raise RequestError("There is no such sample picture.", "not_found", 404)
        return send_file(BytesIO(pictures[slug].png), "image/png", max_age=DAY)

    @app.get("/openapi.yaml")
    def serve_openapi() -> Response:
        return send_file(BytesIO(openapi), "application/yaml")


def _serve_api(app: Flask, classifier: Classifier, name: str, options: Options) -> None:
    known = classifier.preprocessing
    limits = FetchLimits(bytes=options.upload_bytes)
    fetching = Gate(options.fetching)
    classifying = Gate(options.classifying, options.line, options.patience)
    classifying_large = Gate(1, options.large_line, options.patience)

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(status="ok")

    @app.get("/api/model")
    def model() -> Response:
        classes = [{"class": fine, "superclass": classifier.superclass(k)} for k, fine in enumerate(known.class_names)]
        return jsonify(name=name, image_shape=known.image_shape, fit=classifier.fit, flip=classifier.flip, classes=classes)

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
        opened = decode.inspect(data)
        with classifying_large if opened.large else classifying:
            return jsonify(_answer(classifier, opened.rgb(), top, show))


def _answer(classifier: Classifier, picture: Image.Image, top: int, show: bool) -> dict[str, Any]:
    seen = classifier.view(picture)
    found = classifier.rank(classifier.probabilities(seen[None])[0], top)
    answer: dict[str, Any] = {"predictions": [as_json(prediction) for prediction in found]}
    if show:
        picture.thumbnail(PREVIEW)
        answer["pictures"] = {"preview": _data_url(picture, "JPEG"), "seen": _data_url(to_picture(seen), "PNG")}
    return answer


def _data_url(picture: Image.Image, kind: str) -> str:
    out = BytesIO()
    picture.save(out, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(out.getvalue()).decode()}"


def _answer_errors(app: Flask) -> None:
    """Every error becomes JSON with a code and a sentence; what went wrong inside goes to the log only."""

    @app.errorhandler(RequestError)
    def refuse(e: RequestError) -> Response:
        return _error(e.status, e.code, str(e))

    @app.errorhandler(HTTPException)
    def explain(e: HTTPException) -> Response:
        status = e.code or 500
        if status == 413:
            megabytes = app.config["MAX_CONTENT_LENGTH"] / 2**20
            return _error(status, "too_large", f"The upload is too large. At most {megabytes:.0f} MB are taken.")
        response = _error(status, e.name.lower().replace(" ", "_"), e.description or f"{e.name}.")
        response.headers.extend((key, value) for key, value in e.get_headers() if key == "Allow")
        return response

    @app.errorhandler(Exception)
    def apologize(e: Exception) -> Response:
        app.logger.exception("%s %s", request.method, request.path)
        return _error(500, "internal_server_error", "Something went wrong here. It has been logged.")


def _error(status: int, code: str, message: str) -> Response:
    response = jsonify(error_body(code, message))
    response.status_code = status
    if status == 503:
        response.headers["Retry-After"] = "5"
    return response

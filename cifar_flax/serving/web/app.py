"""The web application: one page, and the API under it, which openapi.yaml describes."""

import base64
from io import BytesIO

from flask import Flask, Response, jsonify, request
from PIL import Image
from werkzeug.exceptions import HTTPException

from cifar_flax.data.pictures.errors import DecoderUnavailable, UnreadableImage
from cifar_flax.data.pictures.fit import to_picture
from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.network import Network
from cifar_flax.serving.errors import STATUS_OF_PICTURE, RequestError
from cifar_flax.serving.formats import as_json
from cifar_flax.serving.web import request_parsing
from cifar_flax.serving.web.admission import Admission
from cifar_flax.serving.web.heat_map import Explainer
from cifar_flax.serving.web.options import Options
from cifar_flax.serving.web.page import describe, serve_page
from cifar_flax.serving.web.reading import PictureReader
from cifar_flax.serving.web.responses import HEADERS, error_body

PREVIEW = (640, 640)  # most pixels of the picture that is shown
LOSSLESS = 128  # pixels a side; up to that many, JPEG would show


def create_app(network: Network, decoder: IsolatedDecoder, explainer: Explainer, options: Options) -> Flask:
    """Builds the application.

    Args:
      network: answers the requests; the page shows what it is.
      decoder: reads the pictures; it needs `options.decoding` processes.
      explainer: of the same network.
      options: limits.
    """
    app = Flask(__name__)
    app.config["MAX_CONTENT_LENGTH"] = options.upload_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = request_parsing.FORM_BYTES
    app.config["MAX_FORM_PARTS"] = request_parsing.FORM_PARTS
    serve_page(app, network)
    _describe_network(app, network, options)
    _take_pictures(app, network, PictureReader(decoder, options), explainer, options)
    _answer_errors(app)

    @app.before_request
    def refuse_other_sites() -> None:
        options.hosts.check(request)

    @app.after_request
    def protect(response: Response) -> Response:
        response.headers.update(HEADERS)
        return response

    return app


def _describe_network(app: Flask, network: Network, options: Options) -> None:
    preprocessing = network.preprocessing

    @app.get("/healthz")
    def health() -> Response:
        return jsonify(status="ok")

    @app.get("/api/model")
    def model() -> Response:
        names = enumerate(preprocessing.class_names)
        classes = [{"class": fine, "superclass": preprocessing.superclass(label)} for label, fine in names]
        shape = preprocessing.image_shape
        return jsonify(**describe(network), image_shape=shape, fit=options.fit, flip=options.flip, classes=classes)


def _take_pictures(app: Flask, network: Network, reader: PictureReader, explainer: Explainer, options: Options) -> None:
    explaining = Admission(1, options.explaining_queue_size, options.queue_timeout)
    class_names = network.preprocessing.class_names

    @app.post("/api/predict")
    def predict() -> Response:
        top, show = request_parsing.top(request), request.args.get("pictures") == "true"

        def answer(picture: Image.Image) -> Response:
            seen = network.view(picture, options.fit)
            predictions = network.rank(network.probabilities(seen[None], options.flip)[0], top)
            pictures = {"pictures": {"preview": _preview(picture), "seen": _data_url(to_picture(seen), "PNG")}} if show else {}
            return jsonify(predictions=[as_json(prediction) for prediction in predictions], **pictures)

        return reader.use(reader.receive(request), answer)

    @app.post("/api/explain")
    def explain() -> Response:
        method, chosen = request_parsing.method(request), request_parsing.label(request, class_names)

        received = reader.receive(request)
        seen = reader.use(received, lambda picture: network.view(picture, options.fit))
        with explaining.place(received.client):
            label = chosen if chosen is not None else int(network.probabilities(seen[None], options.flip)[0].argmax())
            explanation = explainer.heat_map(seen, label, method, options.flip)
            superclass = network.preprocessing.superclass(label)
            return jsonify(
                {"class": class_names[label], "superclass": superclass, "method": method, "values": explanation.values.tolist()}
                | {"heat_map": _data_url(explanation.picture, "PNG")}
            )


def _preview(picture: Image.Image) -> str:
    picture.thumbnail(PREVIEW)
    return _data_url(picture, "PNG" if max(picture.size) <= LOSSLESS else "JPEG")


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

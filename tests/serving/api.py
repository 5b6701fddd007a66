"""The application as its clients see it."""

import io
from urllib.parse import urlencode

import numpy as np
from openapi_core import OpenAPI
from openapi_core.contrib.werkzeug import WerkzeugOpenAPIRequest, WerkzeugOpenAPIResponse
from PIL import Image
from werkzeug import Request
from werkzeug.test import create_environ

from cifar_flax.data.pictures.isolated import IsolatedDecoder
from cifar_flax.serving.web.app import create_app
from cifar_flax.serving.web.heat_map import Explainer
from cifar_flax.serving.web.options import Options
from cifar_flax.serving.web.responses import HEADERS
from tests.conftest import ROOT

OPENAPI = OpenAPI.from_file_path(ROOT / "cifar_flax" / "serving" / "web" / "openapi.yaml")


class Api:
    """The application. Every answer must match openapi.yaml and carry the security headers."""

    def __init__(self, network, **options):
        options = Options(**options)
        self.decoder = IsolatedDecoder(options.decoding)
        self.client = create_app(network, self.decoder, Explainer(network), options).test_client()

    def open(self, path, **request):
        response = self.client.open(path, **request)
        for header, value in HEADERS.items():
            assert response.headers[header] == value
        if path.startswith(("/api", "/healthz")) and response.status_code not in (404, 405):
            asked = Request(create_environ(path, method=request.get("method", "GET")))
            OPENAPI.validate_response(WerkzeugOpenAPIRequest(asked), WerkzeugOpenAPIResponse(response))
        return response

    def upload(self, data, query="", path="/api/predict"):
        form = {"file": (io.BytesIO(data), "../<picture>.png")}
        return self.open(f"{path}{query}", method="POST", data=form, content_type="multipart/form-data")

    def address(self, url):
        return self.open("/api/predict", method="POST", json={"url": url})

    def explain(self, data, **query):
        return self.upload(data, f"?{urlencode(query)}", "/api/explain")

    def body(self, data, content_type="application/json", path="/api/predict"):
        return self.open(path, method="POST", data=data, content_type=content_type)


def picture(height=24, width=36, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(array, kind="PNG"):
    out = io.BytesIO()
    Image.fromarray(array).save(out, kind)
    return out.getvalue()


def refused(response, status, code):
    assert (response.status_code, response.json["error"]["code"]) == (status, code), response.text
    message = response.json["error"]["message"]
    assert message[0].isupper()
    assert message.endswith(".")
    return message

# The demo: docker build -t cifar_flax . ; docs/serving.md says how to run it.
FROM python:3.13-slim

WORKDIR /build
COPY . .
RUN pip install --no-cache-dir --constraint constraints.txt . && rm -r /build
WORKDIR /

RUN useradd --no-create-home demo
USER demo
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["cifar-flax", "serve", "--host=0.0.0.0"]

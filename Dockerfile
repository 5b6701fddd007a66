# The demo: docker build -t cifar_flax . ; docs/serving.md says how to run it.
FROM python:3.13-slim

WORKDIR /app
COPY setup.py pyproject.toml constraints.txt README.md ./
COPY cifar_flax cifar_flax
RUN pip install --no-cache-dir --constraint constraints.txt . && rm -r cifar_flax
COPY launch launch

RUN useradd --no-create-home demo
USER demo
EXPOSE 8000
HEALTHCHECK --start-period=30s CMD ["python", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:8000/healthz', timeout=5)"]
ENTRYPOINT ["python", "launch/serve.py", "--host=0.0.0.0"]

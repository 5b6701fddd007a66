"""Packaging of cifar_flax. `constraints.txt` pins the set of versions that the tests ran with."""

import ast
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
INIT = (HERE / "cifar_flax" / "_version.py").read_text(encoding="utf-8")
VERSION = next(
    ast.literal_eval(node.value)
    for node in ast.parse(INIT).body
    if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__version__"
)

TENSORFLOW = [
    "tensorflow-cpu>=2.20; platform_machine == 'x86_64' and sys_platform != 'darwin'",  # which TFDS reads its sets with
    "tensorflow>=2.20; platform_machine != 'x86_64' or sys_platform == 'darwin'",  # where there is no CPU-only wheel
]

TFDS = [
    *TENSORFLOW,
    "importlib_resources>=6",  # which TFDS 4.9.10 imports without asking for it
    "tensorflow-datasets>=4.9.9",  # prepares CIFAR and other sets, in a child process, once
]

SEARCH = [
    "optuna>=4.9",  # samplers, pruners, heartbeats and retries, and a study in a database that several processes share
]

POSTGRESQL = [
    *SEARCH,
    "psycopg[binary]>=3.2",  # talks to PostgreSQL, with libpq in its wheel
    "sqlalchemy>=2.1",  # which takes it for postgresql://, where older ones take psycopg2
]

ONNX = [
    "onnx>=1.18",  # writes and checks the files of export --format=onnx
]

HUGGINGFACE = [
    "datasets>=4",  # downloads config.data.name = "hf:USER/NAME"
    "huggingface_hub>=0.34",  # downloads the weights of --run=hf:USER/NAME, and uploads what export --format=huggingface writes
    "pyarrow>=20",  # reads Parquet and Arrow files
]

WANDB = [
    "wandb>=0.31",  # sends metrics to Weights & Biases, or keeps them for it: config.log.writers = ("wandb",)
]

MLFLOW = [
    "mlflow-skinny>=3.17",  # sends metrics to an MLflow server: config.log.writers = ("mlflow",)
    "alembic>=1.16",  # with SQLAlchemy makes the database that MLflow keeps in the run directory where there is no server
    "sqlalchemy>=2.1",  # which it keeps them in; older ones take a quoted path as it is
]

setup(
    name="cifar_flax",
    version=VERSION,
    description="Train, understand and show CIFAR image classifiers in JAX",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # Configs and apps lie beside the package here, and within it where it is installed: cifar_flax.files.installation.
    packages=[
        *find_packages(include=["cifar_flax", "cifar_flax.*"]),
        "cifar_flax.configs",
        "cifar_flax.configs.search",
        "cifar_flax.launch",
    ],
    package_dir={
        "cifar_flax.configs": "configs",
        "cifar_flax.configs.search": "configs/search",
        "cifar_flax.launch": "launch",
    },
    entry_points={"console_scripts": ["cifar-flax = cifar_flax.runtime.command_line:main"]},
    package_data={
        "cifar_flax.analysis": ["templates/*"],
        "cifar_flax.pretrained": ["*.safetensors"],
        "cifar_flax.serving.web": ["openapi.yaml", "static/*", "static/samples/*", "templates/*"],
    },
    install_requires=[
        "absl-py>=2.1",  # flags and logging of the apps in launch/
        "annotated-types>=0.7",  # ranges of config fields
        "clu>=0.0.12",  # metrics that accumulate over batches and devices
        "flask>=3.1",  # routes, templates and forms of the demo
        "flax>=0.12",  # Linen modules
        "jax>=0.10",  # arrays, gradients, compilation, devices
        "jinja2>=3.1",  # the page that evaluate writes
        "matplotlib>=3.10",  # its pictures
        "ml-collections>=1.1",  # config files with overrides on the command line
        "mpld3>=0.5.10",  # ships D3 5, which draws the bars of the demo
        "numpy>=2.0",  # images on the host
        "optax>=0.2.5",  # optimizers and schedules
        "orbax-checkpoint>=0.12",  # asynchronous, atomic checkpoints that open on any number of devices
        "packaging>=24",  # reads which packages an extra needs, for messages
        "pandas>=2.2",  # Run.metrics() as a table
        "pillow>=13",  # decodes and resizes pictures; older ones let overlapping tags of a small TIFF fill the memory
        "pydantic>=2.10",  # checks configs and manifests by their type annotations
        "pyyaml>=6",  # metadata of the model cards that export writes; Flax brings it anyway
        "safetensors>=0.5",  # weights in one file that other frameworks read
        "scipy>=1.15",  # mixup's quantiles, fits of temperatures, filters of corruptions
        "tensorboardX>=2.6.2",  # TensorBoard event files without TensorFlow
        "tqdm>=4.67",  # progress bar of predict
        "waitress>=3.0",  # serves the demo
    ],
    extras_require={
        "bench": [
            *TENSORFLOW,  # runs Keras
            "keras>=3.10",  # the same network again
            "torch>=2.9",  # and again; its CPU build is on PyTorch's own index
        ],
        "tfds": TFDS,
        "search": SEARCH,
        "postgresql": POSTGRESQL,
        "wandb": WANDB,
        "mlflow": MLFLOW,
        "onnx": ONNX,
        "huggingface": HUGGINGFACE,
        "cuda": ["jax[cuda]>=0.10"],  # JAX for NVIDIA GPUs
        "test": [
            *MLFLOW,
            *ONNX,
            *POSTGRESQL,
            *TFDS,  # the data tests compare TFDS with the tarballs
            *WANDB,
            "bandit>=1.9",  # finds calls that are often unsafe
            "hypothesis>=6.120",  # inputs that nobody thinks of
            "ipykernel>=6.29",  # runs the notebook, ...
            "mypy>=1.15",  # type checker
            "nbclient>=0.10",  # ... driven by this
            "onnxruntime>=1.22",  # runs the files of export --format=onnx
            "openapi-core>=0.23",  # checks answers of the demo against its description
            "playwright>=1.50",  # drives a browser through the demo
            "pyarrow>=20",  # writes the Parquet files that the data tests read
            "pip-audit>=2.9",  # finds pinned versions with known vulnerabilities
            "pytest>=8.3",  # runs the tests
            "pytest-cov>=7",  # says which lines they run
            "pytest-timeout>=2.4",  # ends one that hangs
            "pytest-xdist>=3.8",  # on all cores
            "ruff>=0.9",  # linter and formatter
            "scikit-image>=0.25",  # ships photographs
            "scikit-learn>=1.6",  # ships two more, and is an independent reference for the metrics
            "trustme>=1.2",  # certificates for servers inside the tests
        ],
    },
)

"""A trained network: its logits, predictions, scores and features, with the names of its classes."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from jax.sharding import AxisType, Mesh

from cifar_flax.config import Config
from cifar_flax.data.dataset import Dataset, checked_labels
from cifar_flax.data.pictures.fit import fit_picture
from cifar_flax.data.pictures.read import Picture, as_pictures, read_picture
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.provenance import in_order_of, load_as_trained
from cifar_flax.errors import UserError
from cifar_flax.evaluation.calibration import UNCALIBRATED, Calibration
from cifar_flax.evaluation.explain import Saliency, default_squares, make_gradient_saliency, occlusion
from cifar_flax.evaluation.predict import Forward, make_features, make_forward, predict
from cifar_flax.evaluation.scores import probabilities, scores
from cifar_flax.models import Variables, count_parameters, create_model
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.runtime.devices import data_parallel_mesh, inference_dtype, replicated
from cifar_flax.runtime.flag_values import TTA, Fit

ACCELERATOR_BATCH, CPU_BATCH = 64, 32
SINGLE_COST = 3  # of a picture on a CPU, in pictures of a batch
METHODS = ("saliency", "occlusion")


class Prediction(NamedTuple):
    """A class that a picture may show.

    Attributes:
      name: of the class.
      superclass: its name; None where the data set has no superclasses.
      probability: in [0, 1].
    """

    name: str
    superclass: str | None
    probability: float


class Network:
    """A trained network; any number of threads may use one.

    Attributes:
      config: the config that it was trained with.
      preprocessing: image shape, class names and normalisation.
      variables: {"params", "batch_stats"}, float32.
      name: for people: of the run or of the file that the weights come from.
      figures: measurements of these weights, such as {"split": "test", "top1": 0.752, "n": 10000}; empty where there are none.
      calibration: the temperature of its probabilities, and where it comes from.
      step: number of updates after which a run saved the weights; None where they come from a file.
      picture_batch: pictures that `probabilities` computes at a time. On a CPU a few are computed one by one: of the bundled
        network, one takes 12 ms of CPU time, and in a batch of 32 each 3.7 ms (two cores with AMX, 2026-11-27).
      dtype: of activations. bfloat16 only on machines that are fast at it; pictures are computed in float32 on any CPU, where
        a single one takes twice as long in bfloat16, and programs for a batch would be compiled anew in every process, for
        as long as they save over a thousand pictures.
    """

    def __init__(
        self,
        config: Config,
        preprocessing: Preprocessing,
        variables: Variables,
        name: str,
        figures: Mapping[str, Any] | None = None,
        step: int | None = None,
        calibration: Calibration = UNCALIBRATED,
    ) -> None:
        self.config, self.preprocessing, self.variables = config, preprocessing, variables
        self.name, self.figures, self.step = name, dict(figures or {}), step
        self.calibration = calibration
        self.dtype = inference_dtype(config.train.dtype)
        self._on_cpu = jax.default_backend() == "cpu"
        self.picture_batch = CPU_BATCH if self._on_cpu else ACCELERATOR_BATCH
        self._picture_dtype = np.dtype(np.float32) if self._on_cpu else self.dtype
        self._programs: dict[tuple[str, Mesh, Any], Forward] = {}
        self._variables: dict[Mesh, Variables] = {}  # on the devices
        self._lock = threading.Lock()  # one batch at a time has all cores; two would only slow each other down

    def __repr__(self) -> str:
        height, width, channels = self.preprocessing.image_shape
        shapes = f"{height}x{width}x{channels} -> {len(self.class_names)} classes"
        return f"<Network {self.name}: {self.config.model.name}, {self.num_parameters:,} parameters, {shapes}>"

    @property
    def file_stem(self) -> str:
        """Stem of output files: NAME@REVISION for the Hub's USER/NAME@REVISION, with hyphens in place of slashes."""
        repository, at, revision = self.name.partition("@")
        return repository.rpartition("/")[2] + at + revision.replace("/", "-")

    @property
    def class_names(self) -> tuple[str, ...]:
        """One name a class, in the order of the logits."""
        return self.preprocessing.class_names

    @property
    def temperature(self) -> float:
        """Divisor of logits before they become probabilities; 1 where the network is not calibrated."""
        return self.calibration.temperature

    @property
    def num_parameters(self) -> int:
        """Number of trained numbers; the statistics of batch normalisation are none."""
        return count_parameters(self.variables["params"])

    @cached_property
    def model(self) -> nn.Module:
        """The Flax module: `model.apply(network.variables, preprocessing.normalize(images), train=False)` gives logits."""
        return create_model(self.config.model, self.preprocessing.num_classes, self.dtype)

    def predict(
        self, pictures: Picture | Sequence[Picture], top: int = 5, fit: Fit | str = Fit.CROP, flip: bool = False
    ) -> Any:
        """Classifies pictures of any size. What a picture is classified with changes its probabilities by rounding alone.

        Args:
          pictures: one picture: a path, an open file or its bytes, a Pillow image, or uint8 [H, W], [H, W, 1], [H, W, 3] or,
            with alpha, [H, W, 4]. Or several: a folder, a sequence of pictures, or uint8 [N, H, W, C].
          top: number of classes, 1 or more; all where there are fewer.
          fit: what becomes of a picture with another aspect ratio than the network's: "crop", "squash" or "pad".
          flip: whether to average the logits over the picture and its mirror image.

        Returns:
          The most probable classes, the best first: list[Prediction] for one picture; for several a list of those in their
          order, of a folder in that of `data.pictures.files.pictures_in`.

        Raises:
          UserError: a picture cannot be read, a folder holds none, `top` is no such number, or the network's outputs are not
            finite.
        """
        _check_count("top", top)
        listed, single = as_pictures(pictures)
        views = [self.view(picture, fit) for picture in listed]
        rankings = [self.rank(probs, top) for probs in self.probabilities(np.stack(views), flip)] if views else []
        return rankings[0] if single else rankings

    def view(self, picture: Picture, fit: Fit | str = Fit.CROP) -> np.ndarray:
        """The image that the network sees of a picture: uint8 [H, W, C] of its image shape.

        Args:
          picture: one picture, as in `predict`.
          fit: as in `predict`.

        Raises:
          UserError: the picture cannot be read, or there is no such fit.
        """
        if fit not in list(Fit):
            raise UserError(f"no fit {fit!r}; expected one of {', '.join(Fit)}")
        return fit_picture(read_picture(picture), self.preprocessing.image_shape, Fit(fit), self.preprocessing.mean)

    def probabilities(self, images: np.ndarray, flip: bool = False) -> np.ndarray:
        """The probability of each class, float32 [N, num_classes], for images uint8 [N, H, W, C]; on one device.

        They are the softmax of the logits over `temperature`.

        Raises:
          UserError: the images have another shape or dtype, or the probabilities are not finite.
        """
        self._check_images(images, least=0)
        count, batch = len(images), self.picture_batch
        if not count:
            return np.empty((0, self.preprocessing.num_classes), np.float32)
        rest = count % batch
        if self._on_cpu and rest * SINGLE_COST <= batch:
            parts = [(images[: count - rest], batch), (images[count - rest :], 1)]
        else:
            parts = [(np.pad(images, [(0, -count % batch)] + [(0, 0)] * (images.ndim - 1)), batch)]
        with self._lock:
            forward, variables = self._program("flip" if flip else "none", self._one_device, self._picture_dtype)
            logits = [predict(forward, variables, part, size, self._one_device) for part, size in parts if len(part)]
        probs = probabilities(np.concatenate(logits)[:count], self.temperature)
        if not np.isfinite(probs).all():
            raise UserError(
                f"{self.name}: the network's outputs are not finite: its training diverged; choose another checkpoint"
            )
        return probs

    def rank(self, probs: np.ndarray, top: int = 5) -> list[Prediction]:
        """The `top` most probable classes, the best first, of probabilities float32 [num_classes]; ties keep their order."""
        _check_count("top", top)
        order = np.argsort(-probs, kind="stable")[:top]
        return [Prediction(self.class_names[k], self.preprocessing.superclass(k), float(probs[k])) for k in order]

    def logits(self, images: np.ndarray, tta: str = "none") -> np.ndarray:
        """The logits of images, float32 [N, num_classes], as the network gives them, computed on all devices.

        Args:
          images: uint8 [N, H, W, C] of the network's image shape; may be memory-mapped.
          tta: test-time augmentation, "none", "flip" or "flip+shift"; see `cifar_flax.evaluation.predict.views`.

        Raises:
          UserError: the images have another shape or dtype, or there is no such test-time augmentation.
        """
        if tta not in list(TTA):
            raise UserError(f"no test-time augmentation {tta!r}; expected one of {', '.join(TTA)}")
        return self._rows(images, tta)

    def features(self, images: np.ndarray) -> np.ndarray:
        """The input of the last layer, float32 [N, F], for uint8 [N, H, W, C].

        See `cifar_flax.evaluation.predict.make_features`.
        """
        return self._rows(images, "features")

    @standard_arithmetic()
    def evaluate(self, data: str | Dataset = "test", tta: str = "none") -> dict[str, Any]:
        """Scores the network on every image of a split once.

        Args:
          data: "train" (without the validation images), "validation" or "test" of the data set that it was trained on, or
            labelled images of the same classes.
          tta: test-time augmentation, as in `logits`.

        Returns:
          n, loss, top1 and the other entries of `evaluation.scores.scores`.

        Raises:
          UserError: there is no such split, the data are missing, or they are not what the network was trained on, see
            `data.provenance`; or the labels are no whole numbers [N] of its classes.
        """
        if isinstance(data, str):
            dataset = load_as_trained(self.config.data, self.preprocessing, data, self.name)
        else:
            if not isinstance(data, Dataset):
                raise UserError(f"{type(data).__name__} is no data; expected the name of a split, or a cifar_flax.data.Dataset")
            labels = checked_labels("the data set", np.asarray(data.labels), len(data.images), data.num_classes)
            dataset = in_order_of(replace(data, labels=labels), self.preprocessing, "the data set", self.name)
        return self.score(self.logits(dataset.images, tta), dataset.labels)

    def score(self, logits: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
        """Scores logits, float32 [N, num_classes], against labels, int32 [N], by `evaluation.scores.scores`."""
        p = self.preprocessing
        return scores(logits, labels, p.class_names, p.coarse_names, p.coarse_of_fine, self.temperature)

    @standard_arithmetic()
    def explain(
        self,
        image: Picture,
        label: int | str | None = None,
        method: str = "saliency",
        size: int | None = None,
        stride: int | None = None,
        flip: bool = False,
    ) -> np.ndarray:
        """Maps the pixels that a prediction rests on.

        Args:
          image: uint8 [H, W, C] of the network's image shape; or a path, the bytes of a file or a Pillow image, of which `view`
            makes one.
          label: the class, by its number or name; by default the most probable one.
          method: "saliency", the gradient of the logit, or "occlusion" by a grey square; see `cifar_flax.evaluation.explain`.
          size: side of the square, in pixels, up to the image's shorter side; a quarter of that by default.
          stride: distance between neighbouring squares, in pixels, up to the same; half their side by default.
          flip: whether the prediction is the mean over the picture and its mirror image, as in `predict`.

        Returns:
          float32 [H, W] for saliency, [rows, columns] of squares for occlusion; larger where the class rests on the pixels.

        Raises:
          UserError: there is no such method or class, the image has another shape or dtype or cannot be read, or `size` or
            `stride` is out of its range.
        """
        image = image if isinstance(image, np.ndarray) else self.view(image)
        self._check_images(image[None])
        label = int(self.probabilities(image[None], flip)[0].argmax()) if label is None else self._label(label)
        if method == "saliency":
            with self._lock:
                return np.asarray(self._saliency[flip](self.variables, image, label))
        if method != "occlusion":
            raise UserError(f"no method {method!r}; expected one of {', '.join(METHODS)}")
        for name, value in (("size", size), ("stride", stride)):
            if value is not None:
                _check_count(name, value, min(image.shape[:2]))
        side, distance = default_squares(image.shape, size)
        probabilities = partial(self.probabilities, flip=flip)
        return occlusion(probabilities, image[None], np.array([label]), side, stride or distance)[0]

    @standard_arithmetic()
    def compile_explanation(self, method: str, flip: bool = False) -> None:
        """Compiles what `explain` computes with these arguments, while other threads go on with predictions."""
        height, width, channels = self.preprocessing.image_shape
        black = np.zeros((self.picture_batch, height, width, channels), np.uint8)
        if method == "saliency":
            jax.block_until_ready(self._saliency[flip](self.variables, black[0], 0))
        else:
            with self._lock:
                forward, variables = self._program("flip" if flip else "none", self._one_device, self._picture_dtype)
            predict(forward, variables, black, len(black), self._one_device)

    @cached_property
    def _one_device(self) -> Mesh:
        return jax.make_mesh((1,), ("data",), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:1])

    @cached_property
    def _saliency(self) -> list[Saliency]:
        """Saliency without and with the mirror image; each is compiled when it is first called."""
        dtype = self._picture_dtype
        model = create_model(self.config.model, self.preprocessing.num_classes, dtype)
        return [make_gradient_saliency(model, self.preprocessing, dtype, tta) for tta in ("none", "flip")]

    def _program(self, kind: str, mesh: Mesh, dtype: Any) -> tuple[Forward, Variables]:
        """The compiled function for a test-time augmentation or for "features", and the variables on the devices of `mesh`."""
        key = kind, mesh, dtype
        if key not in self._programs:
            model = create_model(self.config.model, self.preprocessing.num_classes, dtype)
            parts = model, self.preprocessing, dtype, mesh
            forward = make_features(*parts) if kind == "features" else make_forward(*parts, kind)
            self._programs[key] = forward
        if mesh not in self._variables:
            self._variables[mesh] = jax.device_put(self.variables, replicated(mesh))
        return self._programs[key], self._variables[mesh]

    def _rows(self, images: np.ndarray, kind: str) -> np.ndarray:
        self._check_images(images)
        mesh = data_parallel_mesh()
        with self._lock:
            forward, variables = self._program(kind, mesh, self.dtype)
            return predict(forward, variables, images, self.config.train.eval_batch_size, mesh)

    def _label(self, label: int | str) -> int:
        """The number of a class."""
        if isinstance(label, str) and label in self.class_names:
            return self.class_names.index(label)
        if _is_whole(label) and 0 <= int(label) < len(self.class_names):
            return int(label)
        expected = f"0 to {len(self.class_names) - 1}, or a name such as {self.class_names[0]!r}"
        raise UserError(f"{self.name}: no class {label!r}; expected {expected}")

    def _check_images(self, images: np.ndarray, least: int = 1) -> None:
        shape, dtype = (getattr(images, name, None) for name in ("shape", "dtype"))
        if shape is None or dtype != np.uint8 or shape[1:] != self.preprocessing.image_shape or len(images) < least:
            kind = type(images).__name__ if shape is None else f"{dtype} {list(shape)}"
            expected = f"uint8 [N, {', '.join(map(str, self.preprocessing.image_shape))}]{', N > 0' if least else ''}"
            raise UserError(f"{self.name}: images are {kind}; expected {expected}")


def _check_count(name: str, value: int, most: int | None = None) -> None:
    if not _is_whole(value) or value < 1 or (most is not None and value > most):
        raise UserError(f"{name}={value!r}: expected a whole number, 1 {'or more' if most is None else f'to {most}'}")


def _is_whole(value: object) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)

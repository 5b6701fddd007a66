"""The trainer: what a config, its data set and the devices determine, and the compiled programs made of it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from cifar_flax.config import Balance, Config, DataSource
from cifar_flax.config.user_code import is_ours
from cifar_flax.data.batches import BatchSource, ResidentSource, StreamedSource, epoch_batches, load_ahead
from cifar_flax.data.dataset import Dataset
from cifar_flax.data.loading import data_identity, with_absolute_path
from cifar_flax.data.preprocessing import Preprocessing
from cifar_flax.data.splits import training_splits
from cifar_flax.errors import ConfigError
from cifar_flax.evaluation.metrics import validation_scores
from cifar_flax.evaluation.predict import Forward, make_forward, predict
from cifar_flax.models import Variables, check_module, count_parameters, create_model, describe
from cifar_flax.models.first_layer import find_first_kernel, first_layer_kernels
from cifar_flax.optim.losses import balanced_weights
from cifar_flax.optim.optimizers import create_optimizer
from cifar_flax.optim.schedules import create_schedule
from cifar_flax.runtime import background, compilation
from cifar_flax.runtime.arithmetic import standard_arithmetic
from cifar_flax.runtime.devices import (
    check_fits_in_memory,
    compute_dtype,
    device_memory,
    put_global,
    replicated,
)
from cifar_flax.runtime.multihost import is_main_process
from cifar_flax.training.checks import check_batch_size, check_parts, warn_of_one_class
from cifar_flax.training.chunks import Chunk, ChunkPlan, total_steps
from cifar_flax.training.programs import Program, Programs, compile_chunk
from cifar_flax.training.seed_layout import SeedLayout
from cifar_flax.training.state import TrainState, initial_state
from cifar_flax.training.step import TrainStep
from cifar_flax.training.writers import check_writers

if TYPE_CHECKING:
    from cifar_flax.training.distillation import Teacher

FIRST_IMAGES = 5000  # for layers that are computed from data; the number that the CIFAR speed runs whiten with
FIRST_BYTES = 1 << 27  # of them; at 32 pixels a side, 5000 take a ninth of that

Scores = dict[str, float]


@dataclass(frozen=True)
class Trainer:
    """The parts of a training, and its programs.

    One trainer trains one run, or several that differ in the seed alone, in one vmapped program.

    Attributes:
      config: of all its runs, but for the seed.
      seeds: one a run.
      layout: how their states and batches lie on the devices.
      train_set, validation_set: on the host; no validation set where its fraction is 0.
      preprocessing: of the training set.
      dtype: of activations.
      model, schedule, optimizer: built from the config.
      plan: which steps go into one dispatch.
      source: gives the batches.
    """

    config: Config
    seeds: tuple[int, ...]
    layout: SeedLayout
    train_set: Dataset
    validation_set: Dataset | None
    preprocessing: Preprocessing
    dtype: Any
    model: nn.Module
    schedule: optax.Schedule
    optimizer: optax.GradientTransformation
    plan: ChunkPlan

    @classmethod
    def from_config(cls, config: Config, seeds: tuple[int, ...] = ()) -> "Trainer":
        """Loads the training split and builds the rest; `seeds` is the config's own by default.

        Raises:
          UserError: the data or the package of a writer are missing; batch size and devices, images and network, or network
            and the patterns of `config.optim`, do not go together; or the loss, a transform or the optimizer raises an error or
            returns another shape.
        """
        check_writers(config.log.writers)
        config = replace(config, data=with_absolute_path(config.data))
        train_set, validation_set, train_hashes, test_hashes = training_splits(config.data)
        seeds = seeds or (config.seed,)
        layout = SeedLayout(len(seeds))
        check_batch_size(config, len(train_set), layout.devices_per_seed)
        steps_per_epoch = len(train_set) // config.train.batch_size
        preprocessing = Preprocessing.of(
            train_set, config.data.normalization, train_hashes, test_hashes, data_identity(config.data)
        )
        if is_main_process():
            warn_of_one_class(train_set, config.data.name)
        dtype = compute_dtype(config.train.dtype)
        model = create_model(config.model, preprocessing.num_classes, dtype)
        # Our own are held to it by tests, and to trace one takes up to a second.
        if not (is_ours(type(config.model)) and is_ours(type(model))):
            check_module(model, preprocessing.image_shape, preprocessing.num_classes)
        schedule = create_schedule(config.optim, total_steps(config, steps_per_epoch), steps_per_epoch)
        trainer = cls(
            config=config,
            seeds=seeds,
            layout=layout,
            train_set=train_set,
            validation_set=validation_set,
            preprocessing=preprocessing,
            dtype=dtype,
            model=model,
            schedule=schedule,
            optimizer=create_optimizer(config.optim, schedule),
            plan=ChunkPlan(
                config, steps_per_epoch, layout.seeds_per_device * config.train.batch_size * train_set.images[0].nbytes
            ),
        )
        check_parts(config, preprocessing, model, trainer.optimizer, trainer.abstract_state)
        _ = trainer._teacher_variables  # before there are threads
        return trainer

    @property
    def steps_per_epoch(self) -> int:
        """Full batches in an epoch."""
        return self.plan.steps_per_epoch

    def network_line(self) -> str:
        """A line on the network: its name, the number of its parameters, the shape of its images."""
        parameters = count_parameters(self.abstract_state.params)
        height, width, channels = self.preprocessing.image_shape
        return (
            f"{self.config.model.name}: {parameters:,} parameters, {height}x{width}x{channels} images, "
            f"{self.preprocessing.num_classes} classes, {jnp.dtype(self.dtype).name}"
        )

    def layers(self) -> str:
        """The table of layers."""
        return describe(self.model, self.preprocessing.image_shape)

    def first_layer_kernels(self, params: Any) -> np.ndarray | None:
        """The kernels of the layer that reads the images, as `models.first_layer` finds them.

        Args:
          params: float32 tree, of one run.

        Returns:
          float32 [F, h, w, C], on the host; None where there is no such layer.
        """
        return first_layer_kernels(params, self._first_kernel, self.preprocessing.image_shape)

    @cached_property
    def _first_kernel(self) -> tuple[str, ...] | None:
        variables = {"params": self.abstract_state.params, "batch_stats": self.abstract_state.batch_stats}
        return find_first_kernel(self.model, variables, self.preprocessing.image_shape)

    # States.

    @cached_property
    def abstract_state(self) -> TrainState:
        """Shapes, dtypes and shardings of the state of one run, for restoring."""
        shapes = jax.eval_shape(self._init, jax.ShapeDtypeStruct((), jnp.uint32), self.first_images)
        sharding = replicated(self.layout.mesh)
        return cast(TrainState, jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), shapes))

    def initialize(self, check: Callable[[], None] = lambda: None) -> list[TrainState]:
        """The initial state of each run, `config.train.init_from` taken into account; `check` is called meanwhile.

        Raises:
          UserError: the state does not fit a device; or the run to start from is missing, damaged, of another network, of
            pixels normalised in another way, or without a parameter that is to be frozen.
        """
        check_fits_in_memory(self.abstract_state, self.layout.seeds_per_device)
        images = put_global(self.first_images, replicated(self.layout.mesh))
        init = compilation.jit(self._init, out_shardings=replicated(self.layout.mesh))
        init_all = standard_arithmetic()(lambda: [init(np.uint32(seed), images) for seed in self.seeds])
        states: list[TrainState] = background.wait(background.submit(init_all), check)
        if self.config.train.init_from:
            from cifar_flax.training.transfer import init_from_run  # readers of other networks, for those who start from one

            states, line = init_from_run(states, self.config, self.optimizer, self.layout.mesh)
            if is_main_process():
                print(line, flush=True)
        return states

    def _init(self, seed: jax.Array, first_images: jax.Array) -> TrainState:
        return initial_state(self.config, self.model, self.optimizer, seed, self.preprocessing.normalize(first_images))

    @property
    def first_images(self) -> np.ndarray:
        """Training images for layers that are computed from data: uint8 [N, H, W, C], N at most FIRST_IMAGES.

        They are the first ones; where classes follow one another, as in a folder, evenly spaced ones, of all classes.
        """
        images, labels = self.train_set.images, self.train_set.labels
        count = min(FIRST_IMAGES, max(1, FIRST_BYTES // images[0].nbytes))
        if count < len(labels) and (labels[1:] >= labels[:-1]).all():
            return np.asarray(images[np.arange(count) * len(labels) // count])
        return np.asarray(images[:count])

    # Batches.

    @cached_property
    def streamed(self) -> bool:
        """Whether batches are copied to the devices one by one: where the config says so, or the split does not fit.

        Raises:
          ConfigError: it is to be kept there, and does not fit.
        """
        kind, images = self.config.data.source, self.train_set.images
        fits = images.nbytes <= device_memory() / 2
        if kind is DataSource.RESIDENT and not fits:
            raise ConfigError(
                f"config.data.source: resident images take {images.nbytes / 2**30:.1f} GiB, more than half of the "
                f"{device_memory() / 2**30:.1f} GiB of a device; use auto or streamed"
            )
        return kind is DataSource.STREAMED or not fits

    @cached_property
    def source(self) -> BatchSource:
        """The source of the batches; raises as `streamed`."""
        return (StreamedSource if self.streamed else ResidentSource)(self.train_set, self.layout.chunk)

    def chunks(self, epoch: int, first: int) -> Iterator[tuple[Chunk, Any]]:
        """Yields each chunk of an epoch from update number `first` on, and its batches on the devices."""
        plan = list(self.plan.epoch(epoch, first))
        size, batch_size = len(self.train_set), self.config.train.batch_size
        balance = self.train_set.labels if self.config.data.sampling is Balance.BALANCED else None
        orders = [epoch_batches(size, batch_size, seed, epoch, balance) for seed in self.seeds]
        batches = orders[0] if len(orders) == 1 else np.stack(orders, axis=1)  # [steps, (seeds,) B]
        begin = epoch * self.steps_per_epoch
        indices = (batches[chunk.first - begin : chunk.first - begin + chunk.length] for chunk in plan)
        return zip(plan, load_ahead(self.source, indices), strict=True)

    # Programs.

    def step(
        self, state: TrainState, chunk: Chunk, chunk_data: Any, check: Callable[[], None] = lambda: None
    ) -> tuple[TrainState, jax.Array]:
        """Runs the steps of a chunk and donates `state`; if `check` raises, which is called during compilation, it is intact.

        Returns:
          The new state, and metrics float32 [chunk.length, (seeds,) len(STEP_METRICS)].
        """
        return self._programs.get((chunk.image_size, chunk.length), check)(state, self._device_constants, chunk_data)

    def program_text(self, chunk: Chunk) -> str:
        """The HLO of the program that makes the steps of a chunk, as XLA has optimized it."""
        program: Any = self._programs.get((chunk.image_size, chunk.length))  # a jax.stages.Compiled
        return program.as_text() or ""

    @cached_property
    def teacher(self) -> "Teacher | None":
        """Loaded where the config names one; raises as `load_teacher`."""
        if not self.config.train.teacher:
            return None
        from cifar_flax.training.distillation import load_teacher  # readers of other networks, for those who have a teacher

        return load_teacher(self.config, self.preprocessing)

    @cached_property
    def _teacher_variables(self) -> Variables | None:
        return put_global(self.teacher.variables, self.layout.replicated) if self.teacher else None

    @property
    def _device_constants(self) -> tuple[Any, Variables | None]:
        """Arrays that stay on the devices beside the state: resident images, and the variables of the teacher."""
        return self.source.resident, self._teacher_variables

    def compile_ahead(self, first: int) -> None:
        """Starts compiling the programs of all steps from update number `first` on, in the order in which they are needed."""
        _ = self.source  # which threads would otherwise build once each
        self._programs.compile_ahead(self.plan.programs(first))

    @property
    def compilation_seconds(self) -> float:
        """Seconds for which training has waited for the programs of its steps to be compiled; not those of evaluation."""
        return self._programs.waited

    def evaluate(
        self, state: TrainState, between_batches: Callable[[], None] = lambda: None, wanted: Sequence[bool] | None = None
    ) -> list[dict[str, Scores]]:
        """Scores each run on the validation set; {} where there is none, or where the run is not wanted.

        Returns:
          "validation": scores of the weights to ship, by which checkpoints are selected; and, where the run keeps an average of
          its weights, "validation_raw": scores of those that the optimizer updates.
        """
        if self.validation_set is None:
            return [{} for _ in self.seeds]
        split, batch_size = self.validation_set, self.config.train.eval_batch_size

        def scores(variables: Any) -> Scores:
            logits = predict(self._forward, variables, split.images, batch_size, self.layout.mesh, between_batches)
            return validation_scores(logits, split.labels, batch_size)

        def both(run: TrainState) -> dict[str, Scores]:
            raw = {} if run.ema is None else {"validation_raw": scores(run.raw_variables)}
            return {"validation": scores(run.eval_variables), **raw}

        return [both(self.layout.take_seed(state, i)) if wanted is None or wanted[i] else {} for i in range(len(self.seeds))]

    @cached_property
    def _forward(self) -> Forward:
        return make_forward(self.model, self.preprocessing, self.dtype, self.layout.mesh)

    @cached_property
    def _programs(self) -> Programs[tuple[int | None, int], Program]:
        return Programs(self._compile)

    def _compile(self, key: tuple[int | None, int]) -> Program:
        """Compiles the steps of a chunk, given the size of its images and its length."""
        image_size, length = key
        weights = None
        if self.config.data.class_weights is Balance.BALANCED:
            weights = balanced_weights(self.train_set.labels, self.preprocessing.num_classes)
        args = self.config, self.model, self.optimizer, self.preprocessing, self.steps_per_epoch, image_size, weights
        step = TrainStep(*args, self.teacher)
        return compile_chunk(step, length, self.source, self.layout, self.abstract_state, self._device_constants)

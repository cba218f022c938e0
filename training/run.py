"""What a config builds: data, network, optimiser, and the jitted functions over them. Nothing here changes in a run."""

import contextlib
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import architectures
from architectures import layers
from configs import base
from input_pipeline import classes, colour, datasets, loader, statistics
from input_pipeline.pixels import Pixels
from runtime import mesh
from runtime.errors import UserError, first_line
from training import checkpoints, controllers, losses, optimizers, profile, schedules, stall, state, step, transfer

_IN_RANGE = {
    'above 0': lambda value: value > 0,
    'at least 0': lambda value: value >= 0,
    'at least 0 and below 1': lambda value: 0 <= value < 1,
}
_NAMED = {  # keys whose values are names of what other rooms have
    'normalize': ('range', 'constant', *statistics.MEASURED),
    'mean': colour.MEANS,
    'std': colour.STDS,
    'colour.jitter': colour.JITTERS,
    'colour.lighting': ('none', 'measured', *colour.LIGHTING),
    'colour.padding_mode': colour.PADDING_MODES,
}


def check(config):
    """Raises UserError for a value out of range."""

    def value(key):
        return functools.reduce(lambda part, name: part[name], key.split('.'), config)

    for words, keys in base.RANGES.items():
        for key in keys:
            if not _IN_RANGE[words](value(key)):
                raise UserError(f'{key} must be {words}, not {value(key)}')
    profile.steps(config.profile_steps)
    if config.distortion.versions < 1:
        raise UserError(f'distortion.versions must be at least 1 (no distortions), not {config.distortion.versions}')
    if len(config.pixel_range) != 2:
        raise UserError(f'pixel_range must be two numbers, what 0 and 255 become, not {config.pixel_range!r}')
    if config.batch_size % config.accumulate:
        raise UserError(f'accumulate={config.accumulate} does not divide batch_size={config.batch_size}')
    for key, allowed in (base.CHOICES | _NAMED).items():
        if value(key) not in allowed:
            raise UserError(f'{key} must be one of {", ".join(map(str, allowed))}, not {value(key)!r}')
    if config.colour.jitter == 'inception' and config.colour.jitter_strength:
        raise UserError('colour.jitter=inception has no strength: leave colour.jitter_strength at 0')
    if config.channels != 3 and config.colour.lighting in colour.LIGHTING:
        raise UserError(f'colour.lighting={config.colour.lighting} is of RGB images, and channels is {config.channels}')


def build_model(config):
    """The network that the config names."""
    options = {'dtype': config.dtype, **config.architecture_options}
    return architectures.create(config.architecture, num_classes=config.num_classes, **options)


def normalized_together(config):
    """How many images batch norm takes together in a step of a config; 0 where the network has none."""
    model, part = build_model(config), config.batch_size // config.accumulate
    return min(model.group_size or part, part) if getattr(model, 'batch_norm', False) else 0


def test_loss(config):
    """The loss that is counted on a test split: the config's, the labels as they are."""
    return losses.create(config.loss, config.rubbish_penalty)


def test_batch_size(config, mesh_size):
    """Images a test step: the config's, up to a multiple of the devices."""
    return -(-config.test_batch_size // mesh_size) * mesh_size


class Programs(NamedTuple):
    """The jitted functions of a run.

    Fields:
      advance: (state, *a batch) -> state; of data on the device a batch is (images, labels, order, steps), see
        `step.resident_steps`.
      refresh_curvature: (state, images, labels, indices) -> state, of the optimizer sdlm.
      count: (variables, test batch) -> sums of `step.count_errors`.
      dead_layers: variables -> the names of the layers whose activations of a test batch are all 0.
      batch_stats: variables -> batch norm's statistics measured anew, see `Run.programs`.
    """

    advance: object
    refresh_curvature: object
    count: object
    dead_layers: object
    batch_stats: object


class Run:
    """What a config builds: data, network, optimizer, and the jitted functions over them. Nothing in it changes.

    What a user can mend is refused here, before anything is written. Statistics of the data set are measured later, and
    so `programs` and `compiled` take them.

    `start` is (step, examples seen until then) of the checkpoint that the run resumes from: its batch size may have
    been another. `average_start` is the step from which that checkpoint averages, if it does.
    """

    def __init__(self, config, start=(0, 0), splits=None, average_start=None):
        self.config, self.start = config, start
        self.source, self.test_source = splits or datasets.open_splits(config)
        self.num_examples, batch_size = len(self.source), config.batch_size
        self.mesh = mesh.create(batch_size, model=config.mesh.model)
        self.whole, self.cut = mesh.replicated(self.mesh), mesh.batched(self.mesh)
        self.steps_at = functools.partial(
            schedules.steps_at, num_examples=self.num_examples, batch_size=batch_size, start=start
        )  # the step at which an epoch ends
        # The run's length, in steps and in epochs: all that depends on it takes it from here.
        self.last_step = config.steps or self.steps_at(config.num_epochs)
        self.num_epochs = self.position(config.steps) / self.num_examples if config.steps else config.num_epochs
        self.epoch_ends = {self.steps_at(epoch): epoch for epoch in range(1, int(self.num_epochs) + 1)}
        self.epoch_ends.setdefault(self.last_step, round(self.num_epochs, 4))  # a fraction of an epoch
        self.total_steps = min(self.last_step, config.stop_at_step or self.last_step)
        self.average_start = round(config.average_start * self.last_step)
        if average_start is not None and average_start <= start[0]:  # it has begun, and goes on
            self.average_start = average_start
        self.scale = batch_size / config.reference_batch_size if config.scale_lr else 1.0  # of the learning rates
        self.schedule = schedules.create(
            config.schedule, config.learning_rates, config.learning_rate, config.decay_factor, config.decay_every,
            config.decay_power, self.num_epochs, self.num_examples, batch_size, start, self.scale,
        )  # fmt: skip
        self.warmup = ConfigDict({**config.warmup, 'learning_rate': config.warmup.learning_rate * self.scale})
        controller = controllers.create(
            config.plateau if config.schedule == 'plateau' else None,
            self.warmup if self.warmup.learning_rate else None,
        )

        self.model = build_model(config)
        self.loss = losses.create(config.loss, config.rubbish_penalty, config.label_smoothing)
        self.image_shape = (config.image_size, config.image_size, config.channels)
        self.optimizer = optimizers.create(
            config.optimizer, config.momentum, config.weight_decay, config.sdlm_mu,
            rate_inside=config.rate_inside, decayed=config.decayed, bias_rate=config.bias_rate,
            clip_norm=config.clip_norm, filter_rms=config.filter_rms,
            convolutions=self._convolutions(),
            rule=config[config.optimizer] if config.optimizer in optimizers.OPTIONS else None,
        )  # fmt: skip
        if config.trained_layers:
            self.optimizer = optimizers.only(self.optimizer, config.trained_layers)
        self.initial_state = functools.partial(
            state.create,
            self.model,
            self.optimizer,
            self.image_shape,
            config.seed,
            controller,
            config.average != 'none',
        )
        self.lies = mesh.of_state(self.mesh, jax.eval_shape(self.initial_state))
        self._check_parts()
        self.inherited = self._inherit() if config.init_from and start == (0, 0) else None
        self.pixels = Pixels(config, None, self.num_examples)  # without statistics: its order, forms and seed
        self.form, self.test_form = self.pixels.train_form, self.pixels.test_form
        self.resident = loader.fits_in_memory(self.source) and not self.form.crop
        if config.optimizer == 'sdlm' and not self.resident:
            raise UserError(
                f'the optimizer sdlm samples its data set, which must fit in memory; {config.dataset} streams'
            )
        of_backend = 1 if jax.default_backend() == 'cpu' else 100  # on CPU loops of convolutions are slow
        self.per_dispatch = (config.steps_per_dispatch or of_backend) if self.resident else 1
        if self.resident:
            self.data = mesh.put(loader.in_memory(self.source, self.form), self.whole)

    def _convolutions(self):
        """The network's, by path; UserError where it takes no images of this size."""
        try:
            return architectures.convolutions(self.model, self.image_shape)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            size, name = self.config.image_size, self.config.architecture
            raise UserError(f'{name} takes no images of {size}x{size} ({first_line(error)})') from None

    def _check_parts(self):
        """A part of the batch must be whole on every device, and whole groups of batch norm."""
        part, devices = self.config.batch_size // self.config.accumulate, self.mesh.shape['data']
        if part % devices:
            raise UserError(
                f'batch_size {self.config.batch_size} in {self.config.accumulate} parts cannot be cut over {devices} '
                f'devices; take a multiple of {devices * self.config.accumulate}'
            )
        group = getattr(self.model, 'group_size', 0)
        if group and part > group and part % group:
            raise UserError(
                f'batch norm takes groups of {group} images, and a step has {part} at a time: take a multiple of it, '
                f'or set --config.architecture_options.group_size={math.gcd(part, group)}'
            )
        if 1 in (part, group):  # a layer on a 1x1 map would have nothing to take statistics of
            images = jax.ShapeDtypeStruct((part, *self.image_shape), 'float32')
            forward = functools.partial(self.model.apply, train=True, mutable=True, rngs={'dropout': jax.random.key(0)})
            jax.eval_shape(forward, jax.eval_shape(self.initial_state).variables, images)

    def _inherit(self):
        """What the run takes over of another's weights."""
        variables = jax.eval_shape(self.initial_state).variables
        pixels = {key: getattr(self.config, key) for key in checkpoints.INPUT}
        names = classes.known_names(self.source)
        return transfer.load(self.config.init_from, variables, self.config.init_layers, pixels, names)

    def rate(self, at, controller):
        """The learning rate of step `at`."""
        return controllers.rate(controller, self.schedule(at), self.config.plateau, self.warmup)

    def finished(self, at, controller):
        """Whether the run is over at a step: at its end, or as its plateaus are."""
        return at >= self.last_step or controllers.finished(controller, self.config.plateau)

    def _average_weight(self):
        config = self.config
        return {
            'none': None,
            'ema': state.ema_weight(config.average_decay),
            'uniform': state.uniform_weight(self.average_start),
        }[config.average]

    def programs(self, measured=None):
        """The `Programs`, for `measured` statistics of the data set (`statistics.of_run`) where the config needs them.

        Their `batch_stats` are plain means over batches of training images, their colors left alone. He et al. 2015 do
        so after training (their released models' notes); algorithm 2 of Ioffe and Szegedy 2015.
        """
        config, pixels = self.config, Pixels(self.config, measured, self.num_examples)
        jit = functools.partial(jax.jit, compiler_options=layers.compiler_options())
        train_step = functools.partial(
            step.train_step,
            model=self.model,
            loss=self.loss,
            optimizer=self.optimizer,
            preprocess=pixels.train,
            seed=config.seed,
            auxiliary_weight=config.auxiliary_weight,
            rate=self.rate,
            controller_after=functools.partial(controllers.after_step, warmup=self.warmup),
            average_weight=self._average_weight(),
            accumulate=config.accumulate,
            num_devices=self.mesh.shape['data'],
        )
        if self.resident:
            train_step = step.resident_steps(train_step, config.batch_size, self.cut, single=self.per_dispatch == 1)
        refresh_curvature = functools.partial(
            step.refresh_curvature,
            model=self.model,
            loss=self.loss,
            preprocess=pixels.train,
            memory=config.sdlm_memory,
        )
        measure = functools.partial(
            step.measure_batch_stats, model=self.model, preprocess=pixels.test, seed=config.seed
        )

        def active(variables, batch):
            activations = architectures.activations(self.model, variables, pixels.test(batch))
            return {name: jnp.any(x != 0) for name, x in activations.items()}

        return Programs(
            jit(train_step, donate_argnums=0, out_shardings=self.lies),
            jax.jit(refresh_curvature, donate_argnums=0),
            jit(functools.partial(step.count_errors, model=self.model, loss=test_loss(config), preprocess=pixels.test)),
            functools.partial(self._dead_layers, jit(active)),
            functools.partial(self._batch_stats, jit(measure)),
        )

    def compiled(self, measured, state):
        """The `programs`, what trains compiled ahead, so that the time is known and errors come early.

        Args:
          measured: see `programs`.
          state: the run's, or its `abstract_state`.
        """
        config, programs = self.config, self.programs(measured)

        def indices(*shape):
            return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=self.whole)

        batch = (self.abstract_batch(config.batch_size),)
        if self.resident:
            batch = *self.data, indices(2, self.per_dispatch * config.batch_size), 1
        programs = programs._replace(advance=programs.advance.lower(state, *batch).compile())
        if config.optimizer != 'sdlm':
            return programs
        lowered = programs.refresh_curvature.lower(state, *self.data, indices(config.sdlm_samples))
        return programs._replace(refresh_curvature=lowered.compile())

    def check_length(self, changes):
        """Raises UserError where a run would end, by a change, at a step that it has passed."""
        key = next((key for key in ('steps', 'num_epochs') if key in changes), None)
        if key and self.start[0] >= self.last_step:
            raise UserError(
                f'{key}={self.config[key]:g} ends at step {self.last_step:,}, and the run is at step '
                f'{self.start[0]:,}: take a larger one, or the old {changes[key][0]:g} to resume'
            )

    def first_state(self):
        """The state before the first step, on the devices, with the weights that the run starts from."""
        first = jax.jit(self.initial_state, out_shardings=self.lies)()
        return first.replace(**transfer.apply(self.inherited, first.variables)) if self.inherited else first

    def abstract_state(self):
        """The shapes of the state and how it lies on the devices: what a checkpoint is restored into."""
        return jax.tree.map(
            lambda x, lies: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=lies),
            jax.eval_shape(self.initial_state),
            self.lies,
        )

    def abstract_batch(self, size):
        """The shapes of a streamed batch, and how it lies on the devices."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.cut), loader.blank(size, self.form)
        )

    def position(self, at):
        """How many examples have been seen before step `at`."""
        step, seen = self.start
        return seen + (at - step) * self.config.batch_size

    def info(self, at):
        """What a checkpoint before step `at` says of the run: JSON values."""
        return {
            **checkpoints.describe(self.config, classes.known_names(self.source)),
            'examples_seen': self.position(at),
            'average_start': self.average_start,
            'training_images': self.num_examples,
        }

    def order(self, start, stop):
        """(example numbers, epochs) of steps start <= s < stop."""
        return self.pixels.order(self.position(start), self.position(stop))

    def batches(self, at, next_stop):
        """What `Programs.advance` takes besides the state, call by call: (the step that it ends before, its arguments).

        Args:
          at: the first step.
          next_stop: step -> the next one before which a call must end, such as one that is logged.
        """
        if not self.resident:
            with contextlib.closing(self.stream(at)) as stream:
                yield from ((at + number, (batch,)) for number, batch in enumerate(stream, start=1))
            return
        size = self.config.batch_size
        while at < self.total_steps:
            end = min(at + self.per_dispatch, next_stop(at))
            order = np.zeros((2, self.per_dispatch * size), np.int32)
            order[:, : (end - at) * size] = self.order(at, end)
            yield end, (*self.data, mesh.put(order, self.whole), end - at)
            at = end

    def stream(self, at):
        """Batches from step `at` on, on the devices, of a source that does not fit in memory."""
        return self._stream(self.position(at), self.total_steps - at)

    def _stream(self, position, count):
        config = self.config
        return loader.stream(
            self.source, self.form, self.pixels.order, count, config.batch_size,
            start=position, part=(jax.process_index(), jax.process_count()), seed=self.pixels.seed,
            on_bad_image=config.on_bad_image, workers=config.workers, put=loader.to_device(self.cut),
        )  # fmt: skip

    def test_batches(self):
        """The test split's batches: padded to whole batches and masked, every example once."""
        config, size = self.config, test_batch_size(self.config, self.mesh.size)
        part = (jax.process_index(), jax.process_count())
        return loader.test_batches(self.test_source, self.test_form, size, config.on_bad_image, config.workers, part)

    def _dead_layers(self, active, variables):
        with contextlib.closing(self.test_batches()) as batches:
            batch = loader.to_device(self.cut)(next(batches))
        return stall.dead_layers(active(variables, batch))

    def _batch_stats(self, measure, variables):
        count, add = self.config.recompute_batch_stats, jax.jit(functools.partial(jax.tree.map, jnp.add))
        total = functools.reduce(add, (measure(variables, batch) for batch in self._stream(0, count)))
        return jax.tree.map(lambda x: x / count, total)

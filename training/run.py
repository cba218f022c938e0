"""From a config to objects: data, network, optimizer, and the jitted functions over them, constant during a run."""

import contextlib
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

import architectures
from architectures import catalogue, layers
from configs import base
from input_pipeline import classes, colour, datasets, fingerprint, loader, statistics
from input_pipeline.pixels import PADDING_MODES, Pixels
from runtime import mesh
from runtime.errors import UserError, first_line
from training import (
    checkpoints,
    init_from,
    losses,
    optimizers,
    profile,
    schedules,
    sdlm,
    stall,
    step,
)  # fmt: skip

_NAMED = {  # keys whose values are names defined in input_pipeline
    'normalize': ('range', 'constant', *statistics.MEASURED),
    'mean': colour.MEANS,
    'std': colour.STDS,
    'colour.jitter': colour.JITTERS,
    'colour.lighting': ('none', 'measured', *colour.LIGHTING),
    'colour.padding_mode': PADDING_MODES,
}


def check(config):
    """Raise UserError if a value of the config is out of range."""

    def value(key):
        return functools.reduce(lambda part, name: part[name], key.split('.'), config)

    if problem := base.problem(config):
        raise UserError(problem)
    profile.steps(config.profile_steps)
    if config.distortion.versions < 1:
        raise UserError(f'distortion.versions must be at least 1 (no distortions), not {config.distortion.versions}')
    if len(config.pixel_range) != 2:
        raise UserError(f'pixel_range must be two numbers, the values for 0 and 255, not {config.pixel_range!r}')
    if config.batch_size % config.accumulate:
        raise UserError(f'accumulate={config.accumulate} does not divide batch_size={config.batch_size}')
    for key, allowed in _NAMED.items():
        if value(key) not in allowed:
            raise UserError(f'{key} must be one of {", ".join(map(str, allowed))}, not {value(key)!r}')
    if config.colour.jitter == 'inception' and config.colour.jitter_strength:
        raise UserError('colour.jitter=inception has no strength: set colour.jitter_strength=0')
    if config.channels != 3 and config.colour.lighting in colour.LIGHTING:
        raise UserError(
            f'colour.lighting={config.colour.lighting} requires RGB images, and channels is {config.channels}'
        )


def build_model(config):
    """Return the config's network."""
    options = {'dtype': config.dtype, **config.architecture_options}
    return architectures.create(config.architecture, num_classes=config.num_classes, **options)


def normalized_together(config):
    """Return how many images batch norm normalizes together in a training step; 0 without batch norm."""
    model, part = build_model(config), config.batch_size // config.accumulate
    return min(model.group_size or part, part) if getattr(model, 'batch_norm', False) else 0


def test_loss(config):
    """Return the loss for a test split: the config's, without label smoothing."""
    return losses.create(config.loss, config.rubbish_penalty)


def test_batch_size(config, mesh_size, num_examples):
    """Return the number of images per test step: the config's, bounded by the test split, for all devices."""
    return -(-loader.bounded_batch(config.test_batch_size, num_examples) // mesh_size) * mesh_size


class Programs(NamedTuple):
    """The jitted functions of a run.

    Fields:
      advance: (state, *batch) -> state; for data on the device, batch is (images, labels, order, steps), see
        `step.resident_steps`.
      refresh_curvature: (state, images, labels, indices) -> state, for the optimizer sdlm.
      count: (variables, test batch) -> sums of `step.count_errors`.
      dead_layers: variables -> the names of the layers whose activations on a test batch are all 0.
      batch_stats: variables -> batch norm's statistics, recomputed, see `Run.programs`.
    """

    advance: object
    refresh_curvature: object
    count: object
    dead_layers: object
    batch_stats: object


class Run:
    """The data, network and optimizer of a config, and the jitted functions over them. It does not change in training.

    The constructor raises user errors before anything is written. `programs` and `compiled` take the statistics of the
    data set as an argument, because they are measured later.

    `start` is (step, examples seen by then) of the checkpoint to resume from, whose batch size may differ.
    `average_start` is the step at which that checkpoint's average of the weights starts, if it has one.
    """

    def __init__(self, config, start=(0, 0), splits=None, average_start=None):
        self.config, self.start = config, start
        self.source, self.test_source = splits or datasets.open_splits(config)
        self.num_examples, batch_size = len(self.source), config.batch_size
        self.mesh = mesh.create(batch_size, model=config.mesh.model)
        self.replicated, self.batch_sharding = mesh.replicated(self.mesh), mesh.batch_sharding(self.mesh)
        self.steps_at = functools.partial(  # epochs -> the step at which they end
            schedules.steps_at, num_examples=self.num_examples, batch_size=batch_size, start=start
        )
        # The only definition of the run's length, in steps and in epochs.
        self.last_step = config.steps or self.steps_at(config.num_epochs)
        self.num_epochs = self.position(config.steps) / self.num_examples if config.steps else config.num_epochs
        self.epoch_ends = {self.steps_at(epoch): epoch for epoch in range(1, int(self.num_epochs) + 1)}
        self.epoch_ends.setdefault(self.last_step, round(self.num_epochs, 4))  # a fraction of an epoch
        self.total_steps = min(self.last_step, config.stop_at_step or self.last_step)
        self.average_start = round(config.average_start * self.last_step)
        if average_start is not None and average_start <= start[0]:  # an average already started
            self.average_start = average_start
        # The factor of all learning rates.
        self.scale = batch_size / config.reference_batch_size if config.scale_lr else 1.0
        self.schedule = schedules.create(
            config.schedule, config.learning_rates, config.learning_rate, config.decay_factor, config.decay_every,
            config.decay_power, self.num_epochs, self.num_examples, batch_size, start, self.scale,
        )  # fmt: skip
        self.warmup = ConfigDict({**config.warmup, 'learning_rate': config.warmup.learning_rate * self.scale})
        controller = schedules.create_controller(
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
        averaged = config.average != 'none'
        self.initial_state = functools.partial(
            step.create_state, self.model, self.optimizer, self.image_shape, config.seed, controller, averaged
        )
        self.state_sharding = mesh.state_sharding(self.mesh, jax.eval_shape(self.initial_state))
        self._check_parts()
        self.initial_weights = self._load_initial_weights() if config.init_from and start == (0, 0) else None
        self.pixels = Pixels(config, None, self.num_examples)  # without statistics: for its order, forms and seed
        self.form, self.test_form = self.pixels.train_form, self.pixels.test_form
        self.resident = loader.fits_in_memory(self.source) and not self.form.crop
        if config.optimizer == 'sdlm' and not self.resident:
            raise UserError(
                f'the optimizer sdlm needs a data set that fits in memory, to sample from; {config.dataset} is streamed'
            )
        default = 1 if jax.default_backend() == 'cpu' else 100  # convolutions inside a loop are slow on the CPU
        # Steps in one call of `advance`.
        self.per_dispatch = (config.steps_per_dispatch or default) if self.resident else 1
        if self.resident:
            self.data = mesh.put(loader.in_memory(self.source, self.form), self.replicated)

    def _convolutions(self):
        """Return the paths of the network's convolutions; raise UserError if the images are too small for it."""
        size, name = self.config.image_size, self.config.architecture
        try:
            return architectures.convolutions(self.model, self.image_shape)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            reason = f'{first_line(error)}{catalogue.line_of(error)}'
            raise UserError(f'{name} cannot process images of {size}x{size} ({reason})') from None
        except UserError as error:
            raise UserError(f'{name} cannot process images of {size}x{size} ({error})') from None

    def _check_parts(self):
        """Raise UserError unless devices and batch norm's groups divide each part of the batch."""
        part, devices = self.config.batch_size // self.config.accumulate, self.mesh.shape['data']
        if part % devices:
            raise UserError(
                f'batch_size {self.config.batch_size} in {self.config.accumulate} parts cannot be split over {devices} '
                f'devices; use a multiple of {devices * self.config.accumulate}'
            )
        group = getattr(self.model, 'group_size', 0)
        if group and part > group and part % group:
            raise UserError(
                f'batch norm has groups of {group} images, and a step processes {part} at a time: use a multiple of '
                f'{group}, or set --config.architecture_options.group_size={math.gcd(part, group)}'
            )
        if 1 in (part, group):  # then a layer with a 1x1 map raises: a single value has no variance
            images = jax.ShapeDtypeStruct((part, *self.image_shape), 'float32')
            forward = functools.partial(self.model.apply, train=True, mutable=True, rngs={'dropout': jax.random.key(0)})
            jax.eval_shape(forward, jax.eval_shape(self.initial_state).variables, images)

    def _load_initial_weights(self):
        """Read the weights of `init_from`."""
        variables = jax.eval_shape(self.initial_state).variables
        pixels = {key: getattr(self.config, key) for key in checkpoints.INPUT}
        names = classes.known_names(self.source)
        config = self.config
        return init_from.load(
            config.init_from, variables, config.init_layers, pixels, names, image_size=config.image_size
        )

    def rate(self, at, controller):
        """Return the learning rate of step `at`."""
        return schedules.controlled_rate(controller, self.schedule(at), self.config.plateau, self.warmup)

    def finished(self, at, controller):
        """Return whether the run is finished at a step: it reached its length, or its last plateau is over."""
        return at >= self.last_step or schedules.plateaus_are_over(controller, self.config.plateau)

    def _average_weight(self):
        config = self.config
        return {
            'none': None,
            'ema': step.ema_weight(config.average_decay),
            'uniform': step.uniform_weight(self.average_start),
        }[config.average]

    def programs(self, measured=None):
        """Return the `Programs`, given the `measured` statistics of the data set if the config needs any.

        Their `batch_stats` are plain means over batches of training images without color augmentation: algorithm 2 of
        Ioffe and Szegedy 2015, which He et al. 2015 run after training (notes of their released models).
        """
        config, model, pixels = self.config, self.model, Pixels(self.config, measured, self.num_examples)
        jit = functools.partial(jax.jit, compiler_options=layers.compiler_options())
        train_step = functools.partial(
            step.train_step,
            model=model,
            loss=self.loss,
            optimizer=self.optimizer,
            preprocess=pixels.train,
            seed=config.seed,
            auxiliary_weight=config.auxiliary_weight,
            rate=self.rate,
            controller_after=functools.partial(schedules.controller_after_step, warmup=self.warmup),
            average_weight=self._average_weight(),
            accumulate=config.accumulate,
            num_devices=self.mesh.shape['data'],
        )
        if self.resident:
            single = self.per_dispatch == 1
            train_step = step.resident_steps(train_step, config.batch_size, self.batch_sharding, single)
        refresh_curvature = functools.partial(
            sdlm.refresh_curvature, model=model, loss=self.loss, preprocess=pixels.train, memory=config.sdlm_memory
        )
        count = functools.partial(step.count_errors, model=model, loss=test_loss(config), preprocess=pixels.test)
        measure = functools.partial(step.measure_batch_stats, model=model, preprocess=pixels.test, seed=config.seed)

        def active(variables, batch):
            activations = architectures.activations(model, variables, pixels.test(batch))
            return {name: jnp.any(x != 0) for name, x in activations.items()}

        return Programs(
            jit(train_step, donate_argnums=0, out_shardings=self.state_sharding),
            jax.jit(refresh_curvature, donate_argnums=0),
            jit(count),
            functools.partial(self._dead_layers, jit(active)),
            functools.partial(self._batch_stats, jit(measure)),
        )

    def compiled(self, measured, state):
        """Return the `programs` with the training functions compiled, to measure the time and to fail early.

        Args:
          measured: see `programs`.
          state: the run's state, or its `abstract_state`.
        """
        config, programs = self.config, self.programs(measured)

        def indices(*shape):
            return jax.ShapeDtypeStruct(shape, jnp.int32, sharding=self.replicated)

        batch = (self.abstract_batch(config.batch_size),)
        if self.resident:
            batch = *self.data, indices(2, self.per_dispatch * config.batch_size), 1
        programs = programs._replace(advance=programs.advance.lower(state, *batch).compile())
        if config.optimizer != 'sdlm':
            return programs
        lowered = programs.refresh_curvature.lower(state, *self.data, indices(config.sdlm_samples))
        return programs._replace(refresh_curvature=lowered.compile())

    def check_length(self, changes):
        """Raise UserError if a changed length would end the run before its current step."""
        key = next((key for key in ('steps', 'num_epochs') if key in changes), None)
        if key and self.start[0] >= self.last_step:
            raise UserError(
                f'{key}={self.config[key]:g} ends at step {self.last_step:,}, and the run is at step '
                f'{self.start[0]:,}: pass a larger value, or the old {changes[key][0]:g} to resume'
            )

    def first_state(self):
        """Return the state before the first step, on the devices, with the weights of `init_from`."""
        state = jax.jit(self.initial_state, out_shardings=self.state_sharding)()
        if not self.initial_weights:
            return state
        return state.replace(**init_from.apply(self.initial_weights, state.variables))

    def abstract_state(self):
        """Return the shapes and sharding of the state, to restore a checkpoint into."""
        return jax.tree.map(
            lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
            jax.eval_shape(self.initial_state),
            self.state_sharding,
        )

    def abstract_batch(self, size):
        """Return the shapes and sharding of a streamed batch."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.batch_sharding),
            loader.blank(size, self.form),
        )

    def position(self, at):
        """Return the number of examples seen before step `at`."""
        return schedules.examples_at(at, self.config.batch_size, self.start)

    def info(self, at):
        """Return the description of the run for a checkpoint before step `at`: JSON values."""
        return {
            **checkpoints.describe(self.config, classes.known_names(self.source)),
            'examples_seen': self.position(at),
            'average_start': self.average_start,
            'training_images': self.num_examples,
            'data': self.fingerprints(),
        }

    def fingerprints(self):
        """Return {'training', 'test': `fingerprint.of` the images}, to notice other data when the run resumes."""
        return {'training': fingerprint.of(self.source), 'test': fingerprint.of(self.test_source)}

    def facts(self):
        """Return {name: value} of what must be equal in all processes of the run."""
        data = {
            f'of the {part} data, the digest of {name}': digest
            for part, digests in self.fingerprints().items()
            for name, digest in digests.items()
        }
        return {
            'the number of training images': self.num_examples,
            'the number of test images': len(self.test_source),
            'the list of classes': classes.known_names(self.source),
            'the last checkpoint': f'step {self.start[0]}',
            **data,
        }

    def order(self, start, stop):
        """Return (example numbers, epochs) of the steps start <= s < stop."""
        return self.pixels.order(self.position(start), self.position(stop))

    def batches(self, at, next_stop):
        """Yield (next step, batch) for each call of `Programs.advance`.

        Args:
          at: the first step.
          next_stop: step -> the next step at which a call must end, for example to log.
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
            yield end, (*self.data, mesh.put(order, self.replicated), end - at)
            at = end

    def stream(self, at):
        """Yield batches on the devices from step `at` on, from a source that does not fit in memory."""
        return self._stream(self.position(at), self.total_steps - at)

    def _stream(self, position, count):
        config = self.config
        return loader.stream(
            self.source, self.form, self.pixels.order, count, config.batch_size,
            start=position, part=(jax.process_index(), jax.process_count()), seed=self.pixels.seed,
            on_bad_image=config.on_bad_image, workers=config.workers, put=loader.to_device(self.batch_sharding),
        )  # fmt: skip

    def test_batches(self):
        """Yield the test split's batches, every example once; the last batch is padded and masked."""
        config, size = self.config, test_batch_size(self.config, self.mesh.size, len(self.test_source))
        part = (jax.process_index(), jax.process_count())
        return loader.test_batches(self.test_source, self.test_form, size, config.on_bad_image, config.workers, part)

    def _dead_layers(self, active, variables):
        with contextlib.closing(self.test_batches()) as batches:
            batch = loader.to_device(self.batch_sharding)(next(batches))
        return stall.dead_layers(active(variables, batch))

    def _batch_stats(self, measure, variables):
        count, add = self.config.recompute_batch_stats, jax.jit(functools.partial(jax.tree.map, jnp.add))
        total = functools.reduce(add, (measure(variables, batch) for batch in self._stream(0, count)))
        return jax.tree.map(lambda x: x / count, total)

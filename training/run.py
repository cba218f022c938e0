"""What a config builds: data, network, optimiser, and the jitted functions over them. Nothing here changes in a run."""

import functools

import jax

import architectures
from architectures import layers
from errors import UserError, first_line
from input_pipeline import colour, loader, recipe
from training import losses, mesh, optimizers, schedules, state, step


def check(config):
    """Raises UserError for a value out of range."""
    for key in ('batch_size', 'test_batch_size', 'image_size', 'num_epochs', 'log_every_steps', 'steps_per_dispatch'):
        if config[key] <= 0:
            raise UserError(f'{key} must be above 0, not {config[key]}')
    if not 0 <= config.sdlm_memory < 1:
        raise UserError(f'sdlm_memory must be at least 0 and below 1, not {config.sdlm_memory}')
    for key in (
        'seed',
        'checkpoint_every_steps',
        'steps',
        'stop_at_step',
        'workers',
        'weight_decay',
        'momentum',
        'bias_rate',
        'clip_norm',
        'filter_rms',
        'auxiliary_weight',
    ):
        if config[key] < 0:
            raise UserError(f'{key} must be at least 0, not {config[key]}')
    if config.distortion.versions < 1:
        raise UserError(f'distortion.versions must be at least 1 (no distortions), not {config.distortion.versions}')
    if len(config.pixel_range) != 2:
        raise UserError(f'pixel_range must be two numbers, what 0 and 255 become, not {config.pixel_range!r}')
    for key in ('scaling', 'squeezing'):
        if not 0 <= config.distortion[key] < 1:
            raise UserError(f'distortion.{key} must be at least 0 and below 1, not {config.distortion[key]}')
    choices = {
        'channels': (1, 3),
        'fit': ('pad', 'resize'),
        'on_bad_image': ('stop', 'skip'),
        'normalize': ('range', 'constant', *recipe.MEASURED),
        'mean': colour.MEANS,
        'std': colour.STDS,
    }
    for key, allowed in choices.items():
        if config[key] not in allowed:
            raise UserError(f'{key} must be one of {", ".join(map(str, allowed))}, not {config[key]!r}')
    # Before a workdir is claimed: `colour.augment` would only say so when the first step is compiled.
    choices = {
        'jitter': colour.JITTERS,
        'lighting': ('none', 'measured', *colour.LIGHTING),
        'padding_mode': colour.PADDING_MODES,
    }
    for key, allowed in choices.items():
        if config.colour[key] not in allowed:
            raise UserError(f'colour.{key} must be one of {", ".join(allowed)}, not {config.colour[key]!r}')
    if config.colour.jitter == 'inception' and config.colour.jitter_strength:
        raise UserError('colour.jitter=inception has no strength: leave colour.jitter_strength at 0')
    if config.channels != 3 and config.colour.lighting in colour.LIGHTING:
        raise UserError(f'colour.lighting={config.colour.lighting} is of RGB images, and channels is {config.channels}')


def build_model(config):
    """The network that the config names."""
    options = dict(config.architecture_options)
    return architectures.create(config.architecture, num_classes=config.num_classes, **options)


def counter(config, model, loss, statistics=dict):
    """The jitted (variables, batch) -> sums of `step.count_errors`, for a config."""
    preprocess = recipe.preprocessing(config, 0, train=False, statistics=statistics)
    count = functools.partial(step.count_errors, model=model, loss=loss, preprocess=preprocess)
    return jax.jit(count, compiler_options=layers.compiler_options())


def test_batches(config, source, mesh_size):
    """A test split's batches for the devices of a mesh: padded to whole batches and masked, every example once."""
    size = -(-config.test_batch_size // mesh_size) * mesh_size
    return loader.test_batches(source, recipe.form(config, train=False), size, config.on_bad_image, config.workers)


class Run:
    """What a config builds: data, network, optimiser, the jitted functions. Nothing here changes during a run.

    `start` is (step, examples seen until then) of the checkpoint that the run goes on from: its batch size may have
    been another.
    """

    def __init__(self, config, start=(0, 0), splits=None):
        self.config, self.start = config, start
        self.statistics = None  # to be set before the first step, where the config needs them (`statistics_of`)
        self.source, self.test_source = splits or recipe.open_splits(config)
        self.num_examples, batch_size = len(self.source), config.batch_size
        self.mesh = mesh.create(batch_size)
        self.whole, self.cut = mesh.replicated(self.mesh), mesh.batched(self.mesh)
        self.steps_at = functools.partial(
            schedules.steps_at, num_examples=self.num_examples, batch_size=batch_size, start=start
        )  # the step at which an epoch ends
        self.total_steps = config.steps or self.steps_at(config.num_epochs)
        if config.stop_at_step:
            self.total_steps = min(self.total_steps, config.stop_at_step)
        self.schedule = schedules.create(
            config.schedule, config.learning_rates, config.learning_rate, config.decay_factor, config.decay_every,
            config.decay_power, config.num_epochs, self.num_examples, batch_size, start,
        )  # fmt: skip

        self.model = build_model(config)
        self.loss = losses.create(config.loss, config.rubbish_penalty)
        self.optimizer = optimizers.create(
            config.optimizer, self.schedule, config.momentum, config.weight_decay, config.sdlm_mu,
            rate_inside=config.rate_inside, decayed=config.decayed, bias_rate=config.bias_rate,
            clip_norm=config.clip_norm, filter_rms=config.filter_rms,
        )  # fmt: skip
        shape = (config.image_size, config.image_size, config.channels)
        self.initial_state = functools.partial(state.create, self.model, self.optimizer, shape, config.seed)
        self._check_image_size()
        self._prepare_training()
        self.count = counter(config, self.model, self.loss, lambda: self.statistics)

    def _check_image_size(self):
        try:
            jax.eval_shape(self.initial_state)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            size, name = self.config.image_size, self.config.architecture
            raise UserError(f'{name} takes no images of {size}x{size} ({first_line(error)})') from None

    def _prepare_training(self):
        config = self.config
        preprocess = recipe.preprocessing(config, self.num_examples, train=True, statistics=lambda: self.statistics)
        one = functools.partial(
            step.train_step,
            model=self.model,
            loss=self.loss,
            optimizer=self.optimizer,
            preprocess=preprocess,
            seed=config.seed,
            auxiliary_weight=config.auxiliary_weight,
        )
        self.form = recipe.form(config, train=True)
        self._order = recipe.order(config, self.num_examples)
        self.resident = loader.fits_in_memory(self.source) and not self.form.crop
        if config.optimizer == 'sdlm' and not self.resident:
            raise UserError(
                f'the optimizer sdlm samples its data set, which must fit in memory; {config.dataset} streams'
            )
        self.per_dispatch = config.steps_per_dispatch if self.resident else 1
        if self.resident:
            pixels = loader.in_memory(self.source, self.form)
            self.data = jax.device_put(pixels, self.whole)
            one = step.resident_steps(one, config.batch_size, self.cut, single=self.per_dispatch == 1)
        self.advance = jax.jit(one, donate_argnums=0, compiler_options=layers.compiler_options())
        self.refresh_curvature = jax.jit(
            functools.partial(
                step.refresh_curvature,
                model=self.model,
                loss=self.loss,
                preprocess=preprocess,
                memory=config.sdlm_memory,
            ),
            donate_argnums=0,
        )

    def abstract_state(self):
        """The shapes of the state, whole on every device: what a checkpoint is restored into."""
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=self.whole), jax.eval_shape(self.initial_state)
        )

    def position(self, at):
        """How many examples have been seen before step `at`."""
        step, seen = self.start
        return seen + (at - step) * self.config.batch_size

    def order(self, start, stop):
        """(example numbers, epochs) of steps start <= s < stop."""
        return self._order(self.position(start), self.position(stop))

    def stream(self, at):
        """Batches from step `at` on, on the devices, of a source that does not fit in memory."""
        config = self.config
        return loader.stream(
            self.source, self.form, self._order, self.total_steps - at, config.batch_size,
            start=self.position(at), part=(jax.process_index(), jax.process_count()), seed=config.seed,
            on_bad_image=config.on_bad_image, workers=config.workers, put=loader.to_device(self.cut),
        )  # fmt: skip

    def describe(self, display, workdir, at_step):
        """Prints what is about to run."""
        config = self.config
        parameters = sum(x.size for x in jax.tree.leaves(jax.eval_shape(self.initial_state).params))
        display.say(
            f'data: {config.dataset}, {self.num_examples:,} training and {len(self.test_source):,} test images, '
            f'{config.num_classes} classes, {"on the device" if self.resident else "streamed"}'
        )
        display.say(f'model: {config.architecture}, {parameters:,} parameters')
        device = self.mesh.devices.flat[0]
        display.say(
            f'run: {self.total_steps:,} steps of {config.batch_size}, {config.optimizer}, seed {config.seed}, on '
            f'{self.mesh.size} {device.device_kind} device{"s" * (self.mesh.size > 1)}, in {workdir}'
        )
        if at_step >= self.total_steps:
            display.say('nothing to do: this run is finished')
        elif at_step:
            epoch, example = divmod(self.position(at_step), self.num_examples)
            display.say(f'resuming at step {at_step:,}: example {example:,} of epoch {epoch + 1}')
        for note in dict.fromkeys((*self.source.notes, *self.test_source.notes)):
            display.say(f'note: {note}')

"""What a config builds: data, network, optimiser, and the jitted functions over them. Nothing here changes in a run."""

import functools

import jax

import architectures
from architectures import layers
from errors import UserError, first_line
from input_pipeline import loader, sources
from input_pipeline.colour import scale_range
from input_pipeline.distortion import distort
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
        'stop_at_step',
        'workers',
        'weight_decay',
        'momentum',
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
    choices = {'channels': (1, 3), 'fit': ('pad', 'resize'), 'on_bad_image': ('stop', 'skip')}
    for key, allowed in choices.items():
        if config[key] not in allowed:
            raise UserError(f'{key} must be one of {", ".join(map(str, allowed))}, not {config[key]!r}')


def preprocessing(config, num_examples, train):
    """The device side of the input, (images uint8 [B, H, W, C], indices [B]) -> float32, as the config says."""
    low, high = config.pixel_range
    ranges = {k: v for k, v in config.distortion.items() if k != 'versions'}
    key = jax.random.key(config.seed)

    def preprocess(images, indices):
        if train and config.distortion.versions > 1:
            images = distort(images, indices, key, num_examples, **ranges)
        return scale_range(images, low, high)

    return preprocess


def build_model(config):
    """The network that the config names."""
    options = dict(config.architecture_options)
    return architectures.create(config.architecture, num_classes=config.num_classes, **options)


def open_split(config, split):
    """The source of a split that the config names; UserError when its classes are not the config's."""
    source = sources.open_source(
        config.dataset, split, config.data_dir, config.image_size, config.channels, config.num_classes
    )
    if len(source.class_names) != config.num_classes:
        raise UserError(
            f'{config.dataset} has {len(source.class_names)} classes and the config {config.num_classes}: pass '
            f'--config.num_classes={len(source.class_names)}'
        )
    if len(source) == 0:
        raise UserError(f'{config.dataset}: the split {split!r} is empty')
    return source


def counter(config, model, loss):
    """The jitted (variables, batch) -> sums of `step.count_errors`, for a config."""
    preprocess = preprocessing(config, 0, train=False)
    count = functools.partial(step.count_errors, model=model, loss=loss, preprocess=preprocess)
    return jax.jit(count, compiler_options=layers.compiler_options())


def test_batches(config, source, mesh_size):
    """A test split's batches for the devices of a mesh: padded to whole batches and masked, every example once."""
    size = -(-config.test_batch_size // mesh_size) * mesh_size
    return loader.test_batches(
        source, size, config.image_size, config.channels, config.fit, config.on_bad_image, config.workers
    )


class Run:
    """What a config builds: data, network, optimiser, the jitted functions. Nothing here changes during a run."""

    def __init__(self, config):
        self.config = config
        self.source, self.test_source = open_split(config, config.train_split), open_split(config, config.test_split)
        self.num_examples, batch_size = len(self.source), config.batch_size
        self.mesh = mesh.create(batch_size)
        self.whole, self.cut = mesh.replicated(self.mesh), mesh.batched(self.mesh)
        self.steps_at = functools.partial(
            schedules.steps_at, num_examples=self.num_examples, batch_size=batch_size
        )  # the step at which an epoch ends
        self.total_steps = self.steps_at(config.num_epochs)
        if config.stop_at_step:
            self.total_steps = min(self.total_steps, config.stop_at_step)
        self.schedule = schedules.steps_of_rates(config.learning_rates, self.num_examples, batch_size)

        self.model = build_model(config)
        self.loss = losses.create(config.loss, config.rubbish_penalty)
        self.optimizer = optimizers.create(
            config.optimizer, self.schedule, config.momentum, config.weight_decay, config.sdlm_mu
        )
        shape = (config.image_size, config.image_size, config.channels)
        self.initial_state = functools.partial(state.create, self.model, self.optimizer, shape, config.seed)
        self._check_image_size()
        self._prepare_training()
        self.count = counter(config, self.model, self.loss)

    def _check_image_size(self):
        try:
            jax.eval_shape(self.initial_state)
        except (TypeError, ValueError, ZeroDivisionError) as error:
            size, name = self.config.image_size, self.config.architecture
            raise UserError(f'{name} takes no images of {size}x{size} ({first_line(error)})') from None

    def _prepare_training(self):
        config = self.config
        preprocess = preprocessing(config, self.num_examples, train=True)
        one = functools.partial(
            step.train_step,
            model=self.model,
            loss=self.loss,
            optimizer=self.optimizer,
            preprocess=preprocess,
            seed=config.seed,
            auxiliary_weight=config.auxiliary_weight,
        )
        self.resident = loader.fits_in_memory(self.source)
        if config.optimizer == 'sdlm' and not self.resident:
            raise UserError(
                f'the optimizer sdlm samples its data set, which must fit in memory; {config.dataset} streams'
            )
        self.per_dispatch = config.steps_per_dispatch if self.resident else 1
        if self.resident:
            pixels = loader.in_memory(self.source, config.image_size, config.channels, config.fit)
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

    def order(self, start, stop):
        """The example numbers of steps start <= s < stop."""
        size = self.config.batch_size
        virtual = self.num_examples * self.config.distortion.versions
        return loader.example_order(start * size, stop * size, virtual, self.config.seed)

    def stream(self, start):
        """Batches from step `start` on, of a source that does not fit in memory."""
        size, config = self.config.batch_size, self.config
        virtual = self.num_examples * config.distortion.versions
        positions = loader.RunOrder(start * size, self.total_steps * size, virtual, config.seed)
        return loader.stream(
            self.source, size, config.image_size, config.channels, config.fit, positions, config.on_bad_image,
            config.workers,
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
            display.say(f'resuming at step {at_step:,}')

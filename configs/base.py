"""All config keys with their defaults; a recipe sets what its paper specifies."""

import functools
import math

from ml_collections import ConfigDict


def _crop(kind):
    crop = ConfigDict()
    crop.kind = kind  # none, whole, center, random, one_of_five, area
    crop.filter = 'bilinear'  # nearest, box, bilinear, bicubic; also cuda_convnet for short sides, random for areas
    crop.short_side = (256, 256)  # the photograph is first resized to a short side in [low, high]
    crop.ends_only = False  # random: a short side of low or high, nothing between
    crop.square = False  # crop the photograph to its central square first
    crop.warp = False  # resize to a square, changing the aspect ratio
    crop.truncate = False  # round the long side down, as torchvision does, not to nearest
    crop.center_rounds = 'down'  # center, for half pixels: down, up (fb.resnet.torch), even (torchvision)
    crop.area = (0.08, 1.0)  # area: range of the fraction of the photograph
    crop.aspect = (3 / 4, 4 / 3)
    crop.form = 'fb'  # fb, torchvision, inception
    return crop


def get_config():
    """Return the base of all recipes; by itself it is not a useful experiment.

    It is locked: setting an unknown key, or a value of another type, raises an error. Only `architecture_options`
    accepts new keys, because each network has its own options.
    """
    config = ConfigDict()

    # Data
    config.dataset = 'synthetic'  # or digits, mnist, cifar10, imagenet, folder, ...: docs/data.md lists them
    config.data_dir = ''  # folder of the data; not for built-in data sets
    config.labels = ''  # label file of a flat folder or tar; empty: labels.csv or labels.txt next to the images
    config.train_split = 'train'
    config.test_split = 'test'
    config.val_fraction = 0.0  # folder: the fraction of each class that is held out as the test split; 0: it has one
    config.val_seed = 0  # draws the images that are held out
    config.num_classes = 10
    config.on_bad_image = 'stop'  # an unreadable image: stop, or skip (use the next one, and count)
    config.workers = 0  # processes that load streamed images; 0: threads

    # Images, on the host: each becomes a uint8 square of image_size
    config.image_size = 32
    config.channels = 1  # 1: gray, 3: color
    config.channel_order = 'rgb'  # of the network's input: rgb, or bgr, for converted Caffe weights
    config.fit = 'pad'  # for small images without a crop: pad (with zeros) or resize
    config.crop = _crop('none')  # of training photographs
    config.test_crop = _crop('none')

    # Pixels, on the device, in this order; 'none', 0 and False are off
    config.distortion = ConfigDict()  # random planar affine distortions
    config.distortion.versions = 1  # per image, including the original; 1: no distortion
    config.distortion.translation = 2.0  # pixels
    config.distortion.scaling = 0.15
    config.distortion.squeezing = 0.15
    config.distortion.shear = 0.3
    config.colour = ConfigDict()
    config.colour.rotation = 0.0  # maximum, in degrees
    config.colour.jitter = 'none'  # fb, howard, inception
    config.colour.jitter_strength = 0.0  # 0: as in the paper
    config.colour.value_shift = 0.0  # maximum, in gray levels
    config.colour.lighting = 'none'  # fb, cc2, sqrt, or measured (on the training images)
    config.colour.lighting_deviation = 0.1
    config.colour.mean_under_crop = True  # subtract the part of the mean image under the crop, or always its center
    config.colour.scale = 1.0  # factor after normalization, in training
    config.colour.flip = False
    config.colour.padding = 0  # pixels on each side, before a random crop
    config.colour.padding_mode = 'zero'  # zero, reflect
    config.normalize = 'range'  # range, constant, or measured: mean_image, channel_mean, channel_mean_std
    config.pixel_range = (-0.1, 1.175)  # range: the values for 0 and 255
    config.mean = 'none'  # constant: a name in MEANS and STDS of input_pipeline/colour.py, or a data set
    config.std = 'none'
    config.statistics = ''  # file of the measured values; empty: the run's statistics.npz, measured if missing

    # Network
    config.architecture = 'lenet5'
    config.architecture_options = ConfigDict()
    config.dtype = 'float32'  # of the computation: float32, bfloat16; parameters, losses and statistics are float32
    config.init_from = ''  # run or checkpoint to start from
    config.init_input = False  # take the options of the network and the pixels from the checkpoint of init_from, too
    config.init_layers = ()  # layers to copy, 'NAME' or 'NAME=THEIRS'; (): all with equal name and shape
    config.trained_layers = ()  # layers to train, the others are frozen; (): all

    # Optimization
    config.loss = 'cross_entropy'  # cross_entropy, penalty, discriminative_penalty
    config.rubbish_penalty = 1.0  # discriminative_penalty
    config.label_smoothing = 0.0  # cross_entropy: fraction of the target spread over all classes
    config.auxiliary_weight = 0.3  # weight of the loss of each auxiliary head
    config.optimizer = 'sgd'  # sgd, momentum, nesterov, adagrad, rmsprop, adam, sdlm
    config.momentum = 0.9  # momentum, nesterov
    config.adagrad = ConfigDict()  # training/optimizers.py has the formulas
    config.adagrad.initial = 0.1  # initial sum of squares; the paper: 0
    config.adagrad.epsilon = 1e-7
    config.rmsprop = ConfigDict()
    config.rmsprop.decay = 0.9
    config.rmsprop.momentum = 0.0
    config.rmsprop.epsilon = 1e-8  # inside the square root; Inception: 1.0
    config.rmsprop.initial = 0.0  # initial mean of squares; TensorFlow: 1
    config.adam = ConfigDict()
    config.adam.beta1 = 0.9
    config.adam.beta2 = 0.999
    config.adam.epsilon = 1e-8
    config.rate_inside = False  # the velocity includes the rate (cuda-convnet, Caffe), or does not (Torch)
    config.weight_decay = 0.0  # L2, added to the gradient
    config.decayed = 'all'  # all, or weights (kernels only)
    config.bias_rate = 1.0  # factor of the rate for biases
    config.clip_norm = 0.0  # maximum norm of the gradient; 0: no limit
    config.filter_rms = 0.0  # maximum root mean square of a convolution's filter; 0: no limit
    config.sdlm_mu = 0.02
    config.sdlm_memory = 0.0  # decay of the running average of the curvature; 0: only the new estimate
    config.sdlm_samples = 500  # samples for the curvature, before each epoch
    config.schedule = 'steps'  # steps (learning_rates), every (decay_every), polynomial, cosine, inverse, plateau
    config.learning_rates = ((1, 0.01),)  # steps: (epochs, rate), ...; the last rate continues
    config.learning_rate = 0.01  # the other schedules: the initial rate
    config.decay_every = 8.0  # every, inverse: in epochs
    config.decay_factor = 0.96  # every
    config.decay_power = 0.5  # polynomial, inverse: the exponent
    config.plateau = ConfigDict()  # plateau: the rate drops when the metric stops falling
    config.plateau.metric = 'test_top1_error'  # or another metric of the epoch, such as train_loss
    config.plateau.patience = 5  # epochs
    config.plateau.threshold = 0.1  # a smaller improvement does not count; in the metric's units
    config.plateau.factor = 0.1  # of each drop
    config.plateau.drops = 3  # the next plateau ends the run
    config.warmup = ConfigDict()  # first another rate, until the training error is below a limit
    config.warmup.learning_rate = 0.0  # 0: no warm-up
    config.warmup.until_error = 80.0  # percent, over the last `steps` steps
    config.warmup.steps = 100
    config.batch_size = 128
    config.reference_batch_size = 128  # the batch size that the rates are for
    config.scale_lr = False  # multiply the rates by batch_size / reference_batch_size
    config.accumulate = 1  # parts that a batch is split into, run one after another
    config.mesh = ConfigDict()
    config.mesh.model = 1  # devices that share large parameters (runtime/mesh.py); the batch is split over the rest
    config.num_epochs = 1.0
    config.steps = 0  # length of the run; 0: num_epochs
    config.seed = 0  # of the weights and dropout
    config.data_seed = -1  # of the order of the examples and their augmentation; -1: seed

    # The weights that are tested and saved
    config.average = 'none'  # none (the last weights), or an average over the steps: ema, uniform (Polyak)
    config.average_decay = 0.9999  # ema
    config.average_start = 0.5  # uniform: start, as a fraction of the run
    config.recompute_batch_stats = 0  # batches to measure batch norm's statistics after training; 0: moving averages

    # The run
    config.test_batch_size = 500
    config.log_every_steps = 100
    config.checkpoint_every_steps = 0  # in addition to the end of every epoch; 0: none
    config.steps_per_dispatch = 100  # with the data on the device; 0: 100, or 1 on CPU (slow loops)
    config.stop_at_step = 0  # 0: run to the end
    config.stall_steps = 1000  # warn once after so many steps without progress; 0: never
    config.profile_steps = ''  # FIRST:LAST, such as 10:15: trace these steps for TensorBoard, in workdir/profile
    config.tracker = ''  # also log to an experiment tracker: wandb, mlflow; empty: none
    return locked(config)


# The allowed values, enforced by `problem`. Names of functions are checked where they are looked up.
RANGES = {
    'above 0': (
        'batch_size', 'reference_batch_size', 'test_batch_size', 'num_epochs', 'log_every_steps', 'accumulate',
        'adagrad.epsilon', 'rmsprop.epsilon', 'adam.epsilon', 'mesh.model',
    ),
    'at least 0': (
        'val_seed', 'seed', 'checkpoint_every_steps', 'steps', 'stop_at_step', 'workers', 'weight_decay', 'momentum',
        'bias_rate', 'clip_norm', 'filter_rms', 'auxiliary_weight', 'recompute_batch_stats', 'steps_per_dispatch',
        'stall_steps', 'adagrad.initial', 'rmsprop.initial',
    ),
    'at least 0 and below 1': (
        'val_fraction', 'sdlm_memory', 'label_smoothing', 'average_decay', 'average_start', 'distortion.scaling',
        'distortion.squeezing', 'rmsprop.decay', 'rmsprop.momentum', 'adam.beta1', 'adam.beta2',
    ),
    'from 1 to 4,096': ('image_size',),
    'from 1 to 1,000,000': ('num_classes',),
    'from 0 to 4,096': ('colour.padding',),
}  # fmt: skip
_IN_RANGE = {
    'above 0': lambda value: value > 0,
    'at least 0': lambda value: value >= 0,
    'at least 0 and below 1': lambda value: 0 <= value < 1,
    'from 1 to 4,096': lambda value: 1 <= value <= 4096,
    'from 1 to 1,000,000': lambda value: 1 <= value <= 10**6,
    'from 0 to 4,096': lambda value: 0 <= value <= 4096,
}
CHOICES = {
    'dtype': ('float32', 'bfloat16'),
    'average': ('none', 'ema', 'uniform'),
    'channels': (1, 3),
    'channel_order': ('rgb', 'bgr'),
    'fit': ('pad', 'resize'),
    'on_bad_image': ('stop', 'skip'),
    'tracker': ('', 'wandb', 'mlflow'),
    'plateau.metric': ('test_top1_error', 'test_top5_error', 'test_loss', 'train_loss', 'train_error'),
}


def flat(config):
    """Return {'group.key': value} of a config, or of a dict with its values; an empty group is the value {}."""
    keys = {}
    for key, value in config.items():
        is_group = isinstance(value, (ConfigDict, dict))
        inner = {f'{key}.{name}': below for name, below in flat(value).items()} if is_group else {}
        keys |= inner or {key: {} if is_group else value}
    return keys


def locked(config):
    """Lock the keys and types of a config, except for the options of networks; return it."""
    config.lock()
    if 'architecture_options' in config:
        config.architecture_options.unlock()
    for member in config.get('members', {}).values():
        member.architecture_options.unlock()
    return config


def problem(config):
    """Return what is wrong with the first value of a config that is not allowed, or ''."""

    def value(key):
        return functools.reduce(lambda part, name: part[name], key.split('.'), config)

    for limits, keys in RANGES.items():
        for key in keys:
            if not _IN_RANGE[limits](value(key)):
                return f'{key} must be {limits}, not {value(key)}'
    for key, allowed in CHOICES.items():
        if value(key) not in allowed:
            return f'{key} must be one of {", ".join(str(one) or "empty" for one in allowed)}, not {value(key)!r}'
    for key in config:
        if not _is_finite(value(key)):
            return f'{key} must be finite, not {value(key)}'
    return ''


def _is_finite(value):
    if isinstance(value, ConfigDict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, tuple):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)

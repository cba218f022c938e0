"""Every key of a config with its default; an experiment's file changes what its paper changes."""

from ml_collections import ConfigDict


def _crop(kind):
    crop = ConfigDict()
    crop.kind = kind  # none, whole, center, random, one_of_five, area
    crop.filter = 'bilinear'  # nearest, box, bilinear, bicubic; of short sides cuda_convnet, of areas random
    crop.short_side = (256, 256)  # the photograph is resized to one of [low, high] first
    crop.ends_only = False  # of random: to low or to high, nothing between
    crop.square = False  # only its central square is kept
    crop.warp = False  # resized to a square, its shape not kept
    crop.truncate = False  # the long side is rounded down, as torchvision does, not to the nearest
    crop.center_rounds = 'down'  # of center, where half a pixel is left: down, up (fb.resnet.torch), even (torchvision)
    crop.area = (0.08, 1.0)  # of the photograph
    crop.aspect = (3 / 4, 4 / 3)
    crop.form = 'fb'  # fb, torchvision, inception
    return crop


def get_config():
    """The base of all configs; on its own it trains nothing of interest.

    It is locked: a recipe that sets a key that is not here, or a value of another type, raises where it does so. Only
    `architecture_options` takes new keys, for networks have options of their own.
    """
    config = ConfigDict()

    # Data
    config.dataset = 'synthetic'  # or digits, mnist, cifar10, imagenet, folder, ...: docs/data.md lists them
    config.data_dir = ''  # where it lies; not for the embedded ones
    config.labels = ''  # the label file of a flat folder or tar; empty: labels.csv or labels.txt beside the images
    config.train_split = 'train'
    config.test_split = 'test'
    config.num_classes = 10
    config.on_bad_image = 'stop'  # an image that cannot be read: stop, or skip (and count, and take the next)
    config.workers = 0  # processes that make batches of streamed images; 0 makes them in threads

    # Images, on the host: each becomes uint8, image_size square
    config.image_size = 32
    config.channels = 1  # 1 grey, 3 colour
    config.channel_order = 'rgb'  # what the network reads: rgb, or bgr, as converted weights of Caffe may
    config.fit = 'pad'  # small images, without a crop: pad with zeros, or resize
    config.crop = _crop('none')  # photographs, to train on
    config.test_crop = _crop('none')

    # Pixels, on the device: in this order, what is not 'none', 0 or False
    config.distortion = ConfigDict()  # random planar affine distortions
    config.distortion.versions = 1  # of each image, the original among them; 1 distorts nothing
    config.distortion.translation = 2.0  # pixels
    config.distortion.scaling = 0.15
    config.distortion.squeezing = 0.15
    config.distortion.shear = 0.3
    config.colour = ConfigDict()
    config.colour.rotation = 0.0  # up to so many degrees
    config.colour.jitter = 'none'  # fb, howard, inception
    config.colour.jitter_strength = 0.0  # 0: the paper's
    config.colour.value_shift = 0.0  # up to so many grey levels
    config.colour.lighting = 'none'  # fb, cc2, sqrt; measured: on the training images
    config.colour.lighting_deviation = 0.1
    config.colour.mean_under_crop = True  # the mean image of a square: its part under the crop, or always its centre
    config.colour.scale = 1.0  # of what the normalisation leaves, in training
    config.colour.flip = False
    config.colour.padding = 0  # pixels around, then a random crop
    config.colour.padding_mode = 'zero'  # or reflect
    config.normalize = 'range'  # range, constant; measured: mean_image, channel_mean, channel_mean_std
    config.pixel_range = (-0.1, 1.175)  # range: what 0 and 255 become
    config.mean = 'none'  # constant: a name of input_pipeline/colour.py's MEANS and STDS, or a data set's
    config.std = 'none'
    config.statistics = ''  # the file of what is measured; empty: statistics.npz of the run, made where it is missing

    # Network
    config.architecture = 'lenet5'
    config.architecture_options = ConfigDict()
    config.dtype = 'float32'  # of the computation, or bfloat16; parameters, losses and statistics stay float32
    config.init_from = ''  # a run or a checkpoint whose weights the run starts from
    config.init_layers = ()  # those to take, 'NAME' or 'NAME=THEIRS'; (): all that fit by name and shape
    config.trained_layers = ()  # those that learn, the rest stays as it is; (): all

    # Optimisation
    config.loss = 'cross_entropy'  # cross_entropy, penalty, discriminative_penalty
    config.rubbish_penalty = 1.0  # of discriminative_penalty
    config.label_smoothing = 0.0  # of cross_entropy: the part of the target that all classes share
    config.auxiliary_weight = 0.3  # of the loss of each auxiliary head, where a network has any
    config.optimizer = 'sgd'  # sgd, momentum, nesterov, adagrad, rmsprop, adam, sdlm
    config.momentum = 0.9  # of momentum and nesterov
    config.adagrad = ConfigDict()  # training/optimizers.py has the rules
    config.adagrad.initial = 0.1  # what the sum of squares starts from; the paper: 0
    config.adagrad.epsilon = 1e-7
    config.rmsprop = ConfigDict()
    config.rmsprop.decay = 0.9
    config.rmsprop.momentum = 0.0
    config.rmsprop.epsilon = 1e-8  # under the root; Inception: 1.0
    config.rmsprop.initial = 0.0  # what the mean of squares starts from; TensorFlow: 1
    config.adam = ConfigDict()
    config.adam.beta1 = 0.9
    config.adam.beta2 = 0.999
    config.adam.epsilon = 1e-8
    config.rate_inside = False  # the rate goes into the velocity, as in cuda-convnet and Caffe, or not, as in Torch
    config.weight_decay = 0.0  # L2, in the gradient
    config.decayed = 'all'  # or weights: kernels alone
    config.bias_rate = 1.0  # times the rate, for biases
    config.clip_norm = 0.0  # the largest norm of the gradient; 0: any
    config.filter_rms = 0.0  # the largest root mean square of a convolution's filter; 0: any
    config.sdlm_mu = 0.02
    config.sdlm_memory = 0.0  # weight of the held curvature beside a new estimate
    config.sdlm_samples = 500  # samples for the curvature, before each pass
    config.schedule = 'steps'  # steps (learning_rates), every (decay_every), polynomial, cosine, inverse, plateau
    config.learning_rates = ((1, 0.01),)  # steps: (epochs, rate), ...; the last rate holds on
    config.learning_rate = 0.01  # the others: the first rate
    config.decay_every = 8.0  # every, inverse: epochs
    config.decay_factor = 0.96  # every
    config.decay_power = 0.5  # polynomial: of what is left of the run; inverse
    config.plateau = ConfigDict()  # plateau: learning_rate drops when an epoch's value has stopped falling
    config.plateau.metric = 'test_top1_error'  # or another of the log's epoch lines, such as train_loss
    config.plateau.patience = 5  # epochs
    config.plateau.threshold = 0.1  # a smaller gain over them is none; in the metric's units
    config.plateau.factor = 0.1  # of a drop
    config.plateau.drops = 3  # one plateau more ends the run
    config.warmup = ConfigDict()  # first another rate, until the training error is below a bound
    config.warmup.learning_rate = 0.0  # 0: no warm-up
    config.warmup.until_error = 80.0  # per cent, of that many steps
    config.warmup.steps = 100
    config.batch_size = 128
    config.reference_batch_size = 128  # the recipe's, for which its rates hold
    config.scale_lr = False  # multiplies the rates by batch_size / reference_batch_size
    config.accumulate = 1  # parts of the batch that go through the network one after another
    config.mesh = ConfigDict()
    config.mesh.model = 1  # devices that large parameters are cut over (runtime/mesh.py); the others cut the batch
    config.num_epochs = 1.0
    config.steps = 0  # the run's length where it is not num_epochs
    config.seed = 0  # of the weights and of dropout
    config.data_seed = -1  # of the order of the examples and of what is random in them; -1: seed

    # What is tested and kept
    config.average = 'none'  # the weights themselves; ema, or uniform (Polyak): their average over the steps
    config.average_decay = 0.9999  # ema
    config.average_start = 0.5  # uniform: from this part of the run on
    config.recompute_batch_stats = 0  # batches for batch norm's statistics after training; 0: moving averages

    # The run
    config.test_batch_size = 500
    config.log_every_steps = 100
    config.checkpoint_every_steps = 0  # besides the end of every epoch; 0: only there
    config.steps_per_dispatch = 100  # of data that is held on the device; 0: 100, on CPU 1 (its loops are slow)
    config.stop_at_step = 0  # 0: run to num_epochs
    config.stall_steps = 1000  # after so many steps without progress one warning says what to do; 0: never
    config.profile_steps = ''  # FIRST:LAST, as 10:15: a trace of these steps, for TensorBoard, into workdir/profile
    return locked(config)


# The values that keys may have: `training.run.check` refuses others. Names of functions are checked where they are.
RANGES = {
    'above 0': (
        'batch_size', 'reference_batch_size', 'test_batch_size', 'image_size', 'num_epochs', 'log_every_steps',
        'accumulate', 'adagrad.epsilon', 'rmsprop.epsilon', 'adam.epsilon',
    ),
    'at least 0': (
        'seed', 'checkpoint_every_steps', 'steps', 'stop_at_step', 'workers', 'weight_decay', 'momentum', 'bias_rate',
        'clip_norm', 'filter_rms', 'auxiliary_weight', 'recompute_batch_stats', 'steps_per_dispatch', 'stall_steps',
        'adagrad.initial', 'rmsprop.initial',
    ),
    'at least 0 and below 1': (
        'sdlm_memory', 'label_smoothing', 'average_decay', 'average_start', 'distortion.scaling',
        'distortion.squeezing', 'rmsprop.decay', 'rmsprop.momentum', 'adam.beta1', 'adam.beta2',
    ),
}  # fmt: skip
CHOICES = {
    'dtype': ('float32', 'bfloat16'),
    'average': ('none', 'ema', 'uniform'),
    'channels': (1, 3),
    'channel_order': ('rgb', 'bgr'),
    'fit': ('pad', 'resize'),
    'on_bad_image': ('stop', 'skip'),
    'plateau.metric': ('test_top1_error', 'test_top5_error', 'test_loss', 'train_loss', 'train_error'),
}


def locked(config):
    """The config, with its keys and their types fixed, but for the networks' own options."""
    config.lock()
    if 'architecture_options' in config:
        config.architecture_options.unlock()
    for member in config.get('members', {}).values():
        member.architecture_options.unlock()
    return config

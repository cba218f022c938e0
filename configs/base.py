"""Every key of a config with its default; an experiment's file changes what its paper changes."""

from ml_collections import ConfigDict


def get_config():
    """The base of all configs; on its own it trains nothing of interest."""
    config = ConfigDict()

    # Data
    config.dataset = 'synthetic'  # digits, mnist, cifar10, folder, tfds:NAME, synthetic
    config.data_dir = ''  # where it lies; not for the embedded ones
    config.train_split = 'train'
    config.test_split = 'test'
    config.num_classes = 10
    config.image_size = 32
    config.channels = 1  # 1 grey, 3 RGB
    config.fit = 'pad'  # how an image becomes image_size square: pad with zeros, or resize
    config.on_bad_image = 'stop'  # an image that cannot be decoded: stop, or skip and count
    config.workers = 0  # processes that decode streamed images; 0 decodes in threads
    config.pixel_range = (-0.1, 1.175)  # what 0 and 255 become
    config.distortion = ConfigDict()  # random planar affine distortions, on the device
    config.distortion.versions = 1  # of each image, the original among them; 1 distorts nothing
    config.distortion.translation = 2.0  # pixels
    config.distortion.scaling = 0.15
    config.distortion.squeezing = 0.15
    config.distortion.shear = 0.3

    # Network
    config.architecture = 'lenet5'
    config.architecture_options = ConfigDict()

    # Optimisation
    config.loss = 'cross_entropy'  # cross_entropy, penalty, discriminative_penalty
    config.rubbish_penalty = 1.0  # of discriminative_penalty
    config.auxiliary_weight = 0.3  # of the loss of each auxiliary head, where a network has any
    config.optimizer = 'sgd'  # sgd, momentum, nesterov, adagrad, rmsprop, adam, sdlm
    config.momentum = 0.9  # of momentum and nesterov
    config.weight_decay = 0.0  # L2, in the gradient
    config.sdlm_mu = 0.02
    config.sdlm_memory = 0.0  # weight of the held curvature beside a new estimate
    config.sdlm_samples = 500  # samples for the curvature, before each pass
    config.learning_rates = ((1, 0.01),)  # (epochs, rate), ...; the last rate holds on
    config.batch_size = 128
    config.num_epochs = 1.0
    config.seed = 0

    # The run
    config.test_batch_size = 500
    config.log_every_steps = 100
    config.checkpoint_every_steps = 0  # besides the end of every epoch; 0: only there
    config.steps_per_dispatch = 100  # of data that is held on the device; on CPU 1, for all but tiny networks
    config.stop_at_step = 0  # 0: run to num_epochs
    return config

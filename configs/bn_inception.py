"""BN-Inception, trained as its paper's BN-x30: Ioffe and Szegedy 2015.

    python train.py --config configs/bn_inception.py --config.data_dir=DIR

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015.
Published: top-1 21.99, top-5 5.82 (figure 4; ImageNet validation, 144 crops); one crop 25.2, 7.82. BN-x30 alone: at
best 74.8% accuracy, after 6 million steps, the length of this recipe.

Brackets name the section of the paper. It lists its changes to an Inception network that it does not describe; here
that is GoogLeNet, and these values are from its recipe: decay 4e-5 (a fifth of 2e-4), the rate times 0.96 every 8/6
epochs, momentum 0.9 (not stated), sampling, colors. The paper distorts colors less but does not say how much; here it
is half of Howard's range. It does not say whether it tests averaged weights; here they are not averaged. Synchronous
SGD replaces its distributed one, and all examples are shuffled together; the paper shuffles within shards. Batch norm
is tested with moving averages; --config.recompute_batch_stats=200 averages over many batches after training instead, as
in its algorithm 2. The initial weights are our choice, as neither this paper nor GoogLeNet's gives them: normal with
variance 2 / fan-in, biases 0 (He et al. 2015a, Eq. 10). `:option.initializer=caffe_xavier` has those of googlenet.py.

Variants: those of configs/variants.py.

Time: by arithmetic 2.3e18 FLOP, 6.5 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import googlenet, variants

EPOCH = 1_281_167 / 32  # steps


def recipe():
    config = googlenet.recipe()
    config.colour.jitter_strength = 0.25  # [4.2.1] less than Howard's 0.5

    config.architecture = 'bn_inception'
    config.architecture_options.group_size = 32  # [4.2] each worker's batch

    config.rate_inside = False
    config.bias_rate = 1.0
    config.weight_decay = 4e-5  # [4.2.1] divided by 5
    config.num_epochs = 6_000_000 / EPOCH  # [4.2.2]
    config.learning_rate = 0.045  # [4.2.2] 30 times 0.0015
    config.decay_every = 8 / 6  # [4.2.1] 6 times faster
    config.average = 'none'
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, small=variants.Small(64))

"""BN-Inception, trained as its paper's BN-x30: Ioffe and Szegedy 2015.

    python train.py --config configs/bn_inception.py --config.data_dir=DIR

Ioffe and Szegedy, "Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift", 2015.
Published: top-1 21.99, top-5 5.82 (figure 4; ImageNet validation, 144 crops); one crop 25.2, 7.82. BN-x30 alone: 74.8%
right at its best, after 6 million steps, the length of this recipe.

The paper's section in brackets. It names what it changes of an Inception that it does not describe; that one is
GoogLeNet here, of whose recipe these are the values: decay 4e-5 (a fifth of 2e-4), the rate times 0.96 every 8/6
epochs, momentum 0.9 (unsaid), sampling, colours. It distorts colours less without telling how much: half of Howard's
range here. Its Inception tests averaged weights or not, unsaid; here not. Synchronous SGD stands for its distributed
one, and the examples are shuffled whole, where it shuffles within shards. Batch norm is tested with moving averages;
to average over many batches after training, as its algorithm 2 does: --config.recompute_batch_stats=200. Its first
weights are a choice of ours, for the paper is silent about them, as GoogLeNet's is: normal, of variance 2 / fan-in,
biases 0 (He et al. 2015a, Eq. 10). `:option.initializer=caffe_xavier` draws them as googlenet.py does.

Variants: those of configs/variants.py.

Time: by arithmetic 2.3e18 FLOP, 6.5 hours at 100 TFLOP/s.
Measured: not yet run here.
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

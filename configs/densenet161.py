"""DenseNet-161, of growth 48: Huang et al. 2016, the earlier versions on arXiv.

    python train.py --config configs/densenet161.py --config.data_dir=DIR

Published: top-1 22.33, top-5 6.15 (table 3 of the earlier versions on arXiv; ImageNet validation, one crop).
Recipe, readings and variants are those of densenet121.py but for what those versions say of this network, which did not
fit into memory otherwise: batches of 128, 100 epochs, the rate divided once more after 90. The rate for the smaller
batch is unsaid, here 0.1 too; batch norm goes over 32 images, the batch on four GPUs.

Time: by arithmetic 5.9e18 FLOP, 16.5 hours at 100 TFLOP/s.
Measured: not yet run here.
"""

from configs import densenet121, variants


def get_config(variant=''):
    config = densenet121.recipe()
    config.architecture = 'densenet161'
    config.architecture_options.group_size = 32
    config.batch_size = config.reference_batch_size = 128
    config.num_epochs = 100.0
    config.learning_rates = ((30, 0.1), (30, 0.01), (30, 0.001), (10, 0.0001))
    return variants.apply(config, variant, **densenet121.VARIANTS)

"""DenseNet-161 with growth 48: Huang et al. 2016, the earlier versions on arXiv.

    python train.py --config configs/densenet161.py --config.data_dir=DIR

Published: top-1 22.33, top-5 6.15 (table 3 of the earlier versions on arXiv; ImageNet validation, one crop).
The recipe, our assumptions and the variants are those of densenet121.py, except for the changes that those versions
made to fit this network into memory: batches of 128, 100 epochs, the rate divided again after 90. They do not give the
rate for the smaller batch; here it is 0.1, too. Batch norm is over 32 images, the batch on four GPUs.

Time: by arithmetic 5.9e18 FLOP, 16.5 hours at 100 TFLOP/s.
Measured: not run yet.
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

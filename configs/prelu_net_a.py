"""PReLU-net A, 19 layers: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015.

    python train.py --config configs/prelu_net_a.py --config.data_dir=DIR

Published: top-1 22.97, top-5 6.28 (table 6; ImageNet validation, dense, several scales); ten crops 25.59, 8.23 (table
5).

The paper's section in brackets. The rates are 1e-2, 1e-3 and 1e-4, switched when the error stops falling, in about 80
epochs. Ours, where it is silent: the rule of the plateaus; the rate inside the velocity, decay of weights alone (never
of the PReLUs' slopes), as in the authors' later release; lighting, by its reference to AlexNet's, of the scale of that
author's code.

Deviation: colours are divided by their standard deviation, by channel, where the paper subtracts a mean and says no
more, and the fully connected layers start from a standard deviation of 0.01; its Eq. 14 is of convolutions. With
colours of 0 to 255 and Eq. 14 everywhere the first loss, on 16 photographs, is 890, the second 2e19 (CPU, 2026-11-24);
with one of the two changes it grows to no number within five steps; with both it falls.

Variants: those of configs/variants.py. `fixed` switches after 40 and 60 epochs: ours.

Time: by arithmetic 1.2e19 FLOP, 32.6 hours at 100 TFLOP/s.
Measured: not yet run here.
"""

from configs import imagenet, variants

VARIANTS = {'small': variants.Small(32, side=2)}


def recipe():
    config = imagenet.get_config()
    config.crop.kind = 'random'
    config.crop.short_side = (256, 512)  # [3] from the first step on
    config.colour.flip = True
    config.colour.lighting = 'cc2'  # [3] as AlexNet
    config.normalize = 'channel_mean_std'  # [3] "mean subtracted"

    config.architecture = 'prelu_net_a'
    config.architecture_options.fc_initializer = 'gaussian_0.01'

    config.optimizer = 'momentum'  # [3]
    config.momentum = 0.9
    config.rate_inside = True
    config.decayed = 'weights'
    config.weight_decay = 5e-4
    config.batch_size = config.reference_batch_size = 128
    config.num_epochs = 80.0
    config.schedule = 'plateau'
    config.learning_rate = 0.01
    config.plateau.drops = 2
    config.learning_rates = ((40, 0.01), (20, 0.001), (20, 0.0001))
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)

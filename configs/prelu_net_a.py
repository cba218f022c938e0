"""PReLU-net A, 19 layers: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015.

    python train.py --config configs/prelu_net_a.py --config.data_dir=DIR

Published: top-1 22.97, top-5 6.28 (table 6; ImageNet validation, dense, several scales); ten crops 25.59, 8.23 (table
5).

Brackets name the section of the paper. The rates are 1e-2, 1e-3 and 1e-4, with drops when the error stops falling, in
about 80 epochs. The paper leaves open, and we assume: the rule for plateaus; a velocity that includes the rate and
decay of weights only (never of the PReLUs' slopes), as in the authors' later release; lighting with the scale of the
code of AlexNet's author, as the paper refers to AlexNet.

Deviation: each color channel is divided by its standard deviation (the paper mentions only that a mean is subtracted),
and the fully connected layers start with a standard deviation of 0.01 (Eq. 14 is about convolutions). With colors of 0
to 255 and Eq. 14 everywhere the first loss, on 16 photographs, is 890 and the second 2e19 (CPU, 2026-11-24). With one
of the two changes it is not finite within five steps; with both it falls.

Variants: those of configs/variants.py. `fixed` drops the rate after 40 and 60 epochs, our choice.

Time: by arithmetic 1.2e19 FLOP, 32.6 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import imagenet, variants

VARIANTS = {'small': variants.Small(32, side=2)}


def recipe():
    config = imagenet.get_config()
    config.crop.kind = 'random'
    config.crop.short_side = (256, 512)  # [3] from the first step
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

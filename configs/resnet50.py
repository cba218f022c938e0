"""ResNet-50: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", 2015.

    python train.py --config configs/resnet50.py --config.data_dir=DIR

Published: top-1 22.85, top-5 6.71 (table 3; ImageNet validation, ten crops); 20.74, 5.25 (table 4; fully convolutional,
five scales); one crop, the authors' release: 24.7, 7.8.

Brackets name the section of the paper. It trains for up to 600 thousand steps, 120 epochs, and divides the rate when
the error stops falling, but does not say how often; here twice, and the next plateau ends the run. From the authors'
release: a velocity that includes the rate, decay of weights only, batch norm over the 32 images of each of eight GPUs,
and its statistics measured again after training (here over 200 batches; they say "sufficiently many"). Our choices: the
rule for plateaus, and lighting with the strength of fb.resnet.torch.

Variants, in addition to those of configs/variants.py:
- `fixed`: the rate is divided after each third of the 120 epochs, as fb.resnet.torch does with 90.
- `lecture`: decay 1e-5 (the paper: 1e-4).

Time: by arithmetic 3.6e18 FLOP, 9.9 hours at 100 TFLOP/s.
Measured: not run yet.
"""

from configs import imagenet, variants


def lecture(config):
    config.weight_decay = 1e-5


VARIANTS = {'small': variants.Small(64), 'lecture': lecture}


def recipe():
    config = imagenet.get_config()
    config.crop.kind = 'random'  # [3.4]
    config.crop.short_side = (256, 480)
    config.colour.flip = True
    config.colour.lighting = 'fb'  # [3.4] "the standard color augmentation", AlexNet's
    config.colour.lighting_deviation = 0.1
    config.normalize = 'mean_image'  # [3.4] of 224x224, as in the authors' release: the same under every crop
    config.colour.mean_under_crop = False

    config.architecture = 'resnet50'
    config.architecture_options.group_size = 32

    config.optimizer = 'momentum'  # [3.4]
    config.momentum = 0.9
    config.rate_inside = True
    config.decayed = 'weights'
    config.weight_decay = 1e-4
    config.batch_size = config.reference_batch_size = 256
    config.num_epochs = 120.0
    config.schedule = 'plateau'
    config.learning_rate = 0.1
    config.plateau.drops = 2
    config.learning_rates = ((40, 0.1), (40, 0.01), (40, 0.001))
    config.recompute_batch_stats = 200
    return config


def get_config(variant=''):
    return variants.apply(recipe(), variant, **VARIANTS)

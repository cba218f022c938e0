"""The lecture's plan: from its LeNet-5 to a better model, one change at a time, on MNIST.

    python train.py --config configs/lenet5_improved.py --config.data_dir=FOLDER_OF_THE_FOUR_IDX_FILES
    python evaluate.py --step latest --checkpoint runs/lenet5_improved/dropout runs/lenet5_improved/seed_*

The lecture ends with a list of what was learned after LeNet-5 and a plan: add it step by step. Each member changes one
thing in the previous one and trains for 20 epochs:

    lecture         lenet5.py:lecture_sgd, exactly the slide: tanh, the paper's initial weights, SGD on one image
    activation      ReLU instead of tanh
    initialization  He's rule, which was derived for ReLU
    batches         32 images per step and 32 times the rates: batch norm requires more than one image
    batch_norm      after both convolutions
    momentum        0.9
    adam            Adam, from its usual rate of 0.001, with the lecture's drops: to 2/5, 1/10 and 1/50 of it
    flip            mirrored images; measured, but dropped afterwards for digits, whose meaning changes when mirrored
    dropout         0.5 after both hidden fully connected layers
    seed_1, seed_2  `dropout` again, with other seeds: the three are the ensemble

`evaluate.py` with several checkpoints averages their probabilities, as an ensemble. To run one member only:
"--config.order=('adam',)".

Measured, 2026-11-28: from 88.65% wrong to 0.87% (`adam`); all members are in docs/lecture.md.

Variants: `cifar10` and `folder=DIR` (configs/variants.py) follow the plan on photographs, where flips stay on.
"""

from configs import lenet5, series, variants

FLIPPED = ('cifar10', 'folder')  # data sets whose images keep their meaning when mirrored


def activation(config):
    config.architecture_options.activation = 'relu'


def initialization(config):
    config.architecture_options.initializer = 'he_fan_in'


def batches(config):
    config.batch_size = config.reference_batch_size = 32
    config.learning_rates = tuple((epochs, 32 * rate) for epochs, rate in config.learning_rates)
    config.log_every_steps = config.steps_per_dispatch = 625


def batch_norm(config):
    config.architecture_options.batch_norm = True


def momentum(config):
    config.optimizer = 'momentum'


def adam(config):
    config.optimizer = 'adam'
    config.learning_rates = ((2, 1e-3), (3, 4e-4), (4, 1e-4), (11, 2e-5))


def flip(config):
    config.colour.flip = True


def dropout(config):
    config.architecture_options.dropout = 0.5


STEPS = (activation, initialization, batches, batch_norm, momentum, adam, flip, dropout)


def get_config(variant=''):
    variants.parse(variant, ('cifar10', 'folder=', 'epochs='), 'lenet5_improved')
    member = lenet5.get_config(f'lecture_sgd,{variant}')
    member.architecture_options.initializer = 'lecun_uniform'  # the paper's; the default for ReLU is another
    members = {'lecture': member}
    for step in STEPS:
        before, member = member, member.copy_and_resolve_references()
        step(member)
        members[step.__name__] = member
        if step is flip and member.dataset not in FLIPPED:
            member = before
    for seed in (1, 2):
        members[f'seed_{seed}'] = member.copy_and_resolve_references()
        members[f'seed_{seed}'].seed = seed
    return series.create(**members)

"""Dropout: the rates of the papers, and other zeros in every step and in every part of a batch."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import architectures
from architectures import catalogue
from training import losses, optimizers, step

RATES = {  # in the order in which they are met
    'lenet5': [],
    'alexnet': [0.5, 0.5],  # Krizhevsky et al. 2012, section 4.2
    'alexnet_owt': [0.5, 0.5],
    'zfnet': [0.5, 0.5],  # Zeiler and Fergus 2013, section 3
    'overfeat_fast': [0.5, 0.5],  # Sermanet et al. 2014, section 3.1
    'overfeat_accurate': [0.5, 0.5],
    'googlenet': [0.7, 0.7, 0.4],  # Szegedy et al. 2014, section 5: two heads, and table 1
    'bn_inception': [],  # Ioffe and Szegedy 2015, section 4.2.1
    'vgg_a': [0.5, 0.5],  # Simonyan and Zisserman 2014, section 3.1
    'prelu_net_a': [0.5, 0.5],  # He et al. 2015a, section 3
    'resnet20': [],  # He et al. 2015b, section 3.4
    'wrn_40_4': [],  # Zagoruyko and Komodakis 2016: the networks of table 5
    'densenet_bc_100_12': [],  # Huang et al. 2016: images are augmented
    'senet154': [0.2],  # Hu et al. 2017, section 5
}
SHORT = {
    'wrn_40_4': {'depth': 10}, 'densenet_bc_100_12': {'blocks': (1, 1)}, 'senet154': {'depths': (1, 1, 1, 1)}
}  # fmt: skip


def rates_of(name, **options):
    """The dropout rates of a network in training; 0 is no dropout."""
    met = []

    def record(call, arguments, keywords, context):
        if isinstance(context.module, nn.Dropout) and context.module.rate and not context.module.deterministic:
            met.append(context.module.rate)
        return call(*arguments, **keywords)

    model, key = architectures.create(name, **options), jax.random.key(0)
    images = jax.ShapeDtypeStruct((1, *catalogue.NETWORKS[name].input_shape), jnp.float32)
    with nn.intercept_methods(record):
        jax.eval_shape(lambda x: model.init({'params': key, 'dropout': key}, x, train=True), images)
    return met


@pytest.mark.parametrize('name', RATES)
def test_rates_are_the_papers(name):
    assert rates_of(name, **SHORT.get(name, {})) == RATES[name]


def test_rates_where_the_papers_drop_out_on_request():
    assert rates_of('wrn_40_4', depth=10, dropout=0.3) == [0.3] * 3  # once in each of 3 blocks
    # After each convolution but the first: two in a layer and one in the transition of two blocks of a layer.
    assert rates_of('densenet_bc_100_12', blocks=(1, 1), dropout=0.2) == [0.2] * 5


# The zeros of a step


class Dropped(architectures.layers.Network):
    """Dropout of the pixels, and a classifier of their mean."""

    num_classes: int = 2

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        return net.logits('fc', net.average('pool', net.dropout(images, 0.5), 1, dense), dense)


@functools.cache
def stepping(seed, accumulate):
    """(the state before the first step, the jitted step), at a rate of 0: the parameters stay."""
    model, optimizer = Dropped(), optimizers.create('sgd')
    one = functools.partial(
        step.train_step, model=model, loss=losses.cross_entropy, optimizer=optimizer, seed=seed,
        preprocess=lambda batch: batch['image'], rate=lambda step, controller: 0.0, accumulate=accumulate,
    )  # fmt: skip
    return step.create_state(model, optimizer, (4, 4, 3), 0), jax.jit(one)


def loss_of_step(number, rows=slice(None), seed=0, accumulate=1):
    """The training loss of step `number` on these rows of 8 equal images."""
    start, one = stepping(seed, accumulate)
    batch = {key: np.zeros(8, kind) for key, kind in (('label', int), ('index', int), ('mask', bool), ('bad', bool))}
    batch |= {'image': np.ones((8, 4, 4, 3), np.float32)}
    batch['mask'][rows] = True
    return float(one(start.replace(step=jnp.int32(number)), batch).window['loss'])


def test_each_step_drops_others_and_the_same_step_the_same():
    found = [loss_of_step(0), loss_of_step(1), loss_of_step(2), loss_of_step(0, seed=1)]
    assert len(set(found)) == 4
    assert loss_of_step(1) == found[1]


def test_each_part_of_a_batch_drops_others():
    assert loss_of_step(0, slice(0, 4), accumulate=2) != loss_of_step(0, slice(4, 8), accumulate=2)

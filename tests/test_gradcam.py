"""`visualize.py gradcam`: gradients as by finite differences; CAM adds up to the score and is Grad-CAM's map."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import narrow, quarter

import architectures
from architectures.catalogue import NETWORKS
from evaluation import protocols, scoring
from figures import deconvnet, gradcam
from runtime.errors import UserError


def network(name, side=0, shift=0.05, **options):
    """(model, variables, two random images); batch norm and biases are not at their initial values."""
    model = architectures.create(name, **options)
    height, _, channels = NETWORKS[name].input_shape
    shape = (side or height, side or height, channels)
    variables = architectures.initialize(model, 0, shape)
    leaves, tree = jax.tree.flatten(variables)
    draws = np.random.default_rng(0)
    leaves = [leaf + shift * np.abs(draws.normal(size=leaf.shape)).astype(np.float32) for leaf in leaves]
    return model, jax.tree.unflatten(tree, leaves), jax.random.normal(jax.random.key(1), (2, *shape))


def member_of(model, side, channels):
    pixels = types.SimpleNamespace(size=side, channels=channels)
    config = types.SimpleNamespace(architecture='the network')
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, side, side, channels)))
    return scoring.Member(model, variables, config, protocols.create('single'), pixels)


def test_maps_are_the_activations_and_a_replaced_one_is_read():
    model, variables, images = network('lenet5')
    read = jax.jit(lambda v, x: gradcam.forward(model, v, x)[:2])(variables, images)
    activations = jax.jit(lambda v, x: architectures.activations(model, v, x))(variables, images)
    assert set(read[1]) == set(activations)
    for name, expected in activations.items():
        np.testing.assert_allclose(read[1][name], expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(read[0], activations['fc3'][:, 0, 0], rtol=1e-5, atol=1e-6)

    @jax.jit
    def without(v, x):
        return gradcam.forward(model, v, x, {'fc2': jnp.zeros((2, 1, 1, 84))}).logits

    np.testing.assert_allclose(
        without(variables, images), np.tile(variables['params']['fc3']['bias'], (2, 1)), rtol=1e-5
    )


@pytest.mark.parametrize('layer', [pytest.param('conv1', marks=pytest.mark.slow), 'conv2'])
def test_its_weights_are_the_mean_gradients(layer):
    """The derivative of the score along one map, all of whose cells rise, is the sum of their gradients."""
    model, variables, images = network('lenet5', shift=0.005, activation='tanh')
    classes = np.array([3, 8])
    activations = gradcam.forward(model, variables, images).maps[layer]
    found = gradcam.gradcam(model, variables, images, layer, classes)
    cells, step = activations.shape[1] * activations.shape[2], 1e-2

    @jax.jit
    def score(maps):
        return gradcam.forward(model, variables, images, {layer: maps}).logits[jnp.arange(2), classes]

    weights = []
    for channel in range(activations.shape[-1]):
        rise = jnp.zeros(activations.shape[-1]).at[channel].set(step)[None, None, None]
        weights.append((score(activations + rise) - score(activations - rise)) / (2 * step * cells))
    expected = np.einsum('bhwc,cb->bhw', activations, np.stack(weights))
    np.testing.assert_allclose(found, expected, rtol=0.02, atol=0.02 * np.abs(expected).max())


AVERAGING = [
    ('resnet20', 32, {'depth': 8}),
    pytest.param('densenet_bc_100_12', 32, {'blocks': (2, 2, 2)}, marks=pytest.mark.slow),
    pytest.param('googlenet', 64, {'num_classes': 10}, marks=pytest.mark.slow),
    pytest.param('resnet18', 64, {'num_classes': 10, 'preactivation': True}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize('name, side, options', AVERAGING)
def test_cam_adds_up_to_the_score_and_grad_cam_is_the_same_map(name, side, options, monkeypatch):
    narrow(monkeypatch)
    model, variables, images = network(name, side, **options)
    layer, has_average = gradcam.find_layer(member_of(model, side, 3))
    assert (layer, has_average) == (gradcam.AVERAGED, True)
    classes = np.array([3, 8])

    @jax.jit
    def both(v, x):
        maps = gradcam.cam(model, v, x, classes)
        return maps, gradcam.gradcam(model, v, x, layer, classes), model.apply(v, x)

    cam, grad, logits = map(np.asarray, both(variables, images))
    last = next(p for n, p in variables['params'].items() if n in ('fc', 'classifier'))
    np.testing.assert_allclose(cam.mean((1, 2)) + last['bias'][classes], logits[[0, 1], classes], rtol=1e-3, atol=1e-3)
    np.testing.assert_allclose(grad * cam[0].size, cam, rtol=1e-3, atol=1e-3 * np.abs(cam).max())
    assert np.ptp(cam) > 0


@pytest.mark.slow
@pytest.mark.parametrize(
    'name, layer, options',
    [('googlenet', 'inception_5b', {}), ('resnet18', 'conv5_x', {'preactivation': True}), ('resnet18', 'conv5_x', {})],
)
def test_the_named_map_that_is_averaged_is_the_default(name, layer, options, monkeypatch):
    quarter(monkeypatch)
    model, variables, images = network(name, 64, num_classes=10, **options)

    @jax.jit
    def both(v, x):
        return [gradcam.gradcam(model, v, x, place, np.array([1, 2])) for place in (layer, gradcam.AVERAGED)]

    named, averaged = both(variables, images)
    np.testing.assert_allclose(named, averaged, rtol=1e-4, atol=1e-5)
    assert np.ptp(named) > 0


@pytest.mark.parametrize(
    'name, expected',
    [
        ('lenet5', 'conv2'),
        ('lenet5_1998', 'S4'),
        ('alexnet', 'conv5'),
        ('zfnet', 'layer5_conv'),
        pytest.param('vgg_d', 'conv5_3', marks=pytest.mark.slow),
    ],
)
def test_the_default_is_the_last_convolution_without_an_average(name, expected):
    side, _, channels = NETWORKS[name].input_shape
    member = member_of(architectures.create(name), side, channels)
    assert gradcam.find_layer(member) == (expected, False)
    with pytest.raises(UserError, match=f"no layer 'none' with a map.* There are: .*{expected}"):
        gradcam.find_layer(member, 'none')


def test_the_deconvnet_of_a_class_is_that_of_its_logit():
    model, variables, images = network('lenet5')
    classes = np.array([3, 8])
    values, expected = deconvnet.project(model, variables, images, 'fc3', np.array([[3, 0, 0], [8, 0, 0]]))
    found = deconvnet.project_class(model, variables, images, classes)
    np.testing.assert_allclose(
        found * values[:, None, None, None], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max()
    )
    assert np.ptp(found) > 0


@pytest.mark.slow
def test_the_same_checkpoint_gives_the_same_file(digits_run, tmp_path):
    config, workdir = digits_run
    for name in ('a.png', 'b.png'):
        gradcam.make(tmp_path / name, config, [workdir], count=2)
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()
    gradcam.make(tmp_path / 'c.html', config, [workdir], count=1, layer='pool1', stride=8)
    text = (tmp_path / 'c.html').read_text()
    assert 'Grad-CAM on pool1; gray square of 8×8 pixels, stride 8' in text
    with pytest.raises(UserError, match="no layer 'fc1' with a map"):
        gradcam.make(tmp_path / 'd.png', config, [workdir], layer='fc1')
    with pytest.raises(UserError, match='--count at least 1'):
        gradcam.make(tmp_path / 'd.png', config, [workdir], count=0)
    assert not (tmp_path / 'd.png').exists()

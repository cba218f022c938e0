"""The projections of figures/deconvnet.py against plain loops, and the choice of the units to project."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import digits, quickly

import architectures
from architectures import catalogue, layers
from evaluation import protocols, scoring
from figures import deconvnet
from input_pipeline import datasets, loader
from input_pipeline.pixels import Pixels
from runtime.errors import UserError

RNG = np.random.default_rng(0)


def numbers(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


class Linear(layers.Network):
    """One convolution and nothing else."""

    stride: int = 1
    padding: int = 0
    groups: int = 1
    ceil: bool = False

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        options = {'stride': self.stride, 'padding': self.padding, 'groups': self.groups, 'ceil': self.ceil}
        return self.layers(train).conv('conv', images, 4, 3, bias=0.5, linear=True, **options)


class Pool(layers.Network):
    """One pool, whose windows overlap and hang over, and nothing else."""

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        return self.layers(train).max_pool('pool', images, 3, 2, ceil=True)


class Small(layers.Network):
    """What AlexNet has: stride, padding, groups, response normalization, overlapping pools."""

    lrn: str = 'paper'

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.conv('conv1', images, 6, 3, stride=2, padding=1, bias=0.1)
        x = net.max_pool('pool1', net.lrn(x), 3, 2, ceil=True)
        x = net.conv('conv2', x, 4, 3, padding=1, groups=2, bias=0.1)
        return net.max_pool('pool2', net.lrn(x), 3, 2, ceil=True)


# A deconvnet in loops


def naive_transpose(signal, kernel, stride, padding, groups, shape):
    """Each cell of [h, w, F] puts its kernel, as strong as it is, where it was read: [H, W, C]."""
    side, depth, each = kernel.shape[0], kernel.shape[2], kernel.shape[3] // groups
    canvas = np.zeros((shape[0] + 2 * padding + side, shape[1] + 2 * padding + side, shape[2]))
    for (row, column, feature), value in np.ndenumerate(signal):
        first = feature // each * depth
        place = canvas[row * stride :, column * stride :, first : first + depth]
        place[:side, :side] += value * kernel[:, :, :, feature]
    return canvas[padding : padding + shape[0], padding : padding + shape[1]]


def naive_unpool(signal, x, window=3, stride=2):
    """Each cell of [h, w, C] goes to where the largest of its window was in x [H, W, C], of equals to the first."""
    found = np.zeros(x.shape)
    for (row, column, channel), value in np.ndenumerate(signal):
        part = x[row * stride :, column * stride :, channel][:window, :window]
        at = np.unravel_index(part.argmax(), part.shape)
        found[row * stride + at[0], column * stride + at[1], channel] += value
    return found


def one_cell(maps, place):
    """A map [H, W, C] with all but (unit, row, column) set to zero."""
    unit, row, column = place
    signal = np.zeros(maps.shape)
    signal[row, column, unit] = maps[row, column, unit]
    return signal


def random_variables(model, shape):
    """Variables of a network; large matrices, which are not looked at here, are zeros."""
    shapes = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), 'float32'))
    scales = {1: 0.1, 4: 0.3}
    return jax.tree.map(
        lambda x: scales.get(x.ndim, 0.3) * numbers(*x.shape) if x.size < 1e6 else np.zeros(x.shape, np.float32), shapes
    )


project = jax.jit(deconvnet.project, static_argnums=(0, 3))


@functools.partial(jax.jit, static_argnums=0)
def activations(model, variables, images):
    return architectures.activations(model, variables, images)


# The projection


@pytest.mark.parametrize('stride, padding, groups, ceil', [(1, 0, 1, False), (2, 1, 2, False), (3, 0, 1, True)])
def test_the_projection_of_one_linear_layer_is_its_transpose(stride, padding, groups, ceil):
    model = Linear(stride=stride, padding=padding, groups=groups, ceil=ceil)
    shape = (7, 7, 2)
    variables = random_variables(model, shape)
    basis = np.eye(98, dtype=np.float32).reshape(98, *shape)
    matrix = (
        np.asarray(model.apply(variables, basis)) - variables['params']['conv']['bias']
    )  # [pixel, row, column, unit]
    images = numbers(3, *shape)
    places = np.array([(0, 0, 0), (3, 1, 0), (1, 1, 1)])
    values, projected = project(model, variables, images, 'conv', places)
    maps = np.asarray(model.apply(variables, images))
    for image, (unit, row, column) in enumerate(places):
        assert values[image] == pytest.approx(maps[image, row, column, unit], rel=1e-5)
        wanted = values[image] * matrix[:, row, column, unit].reshape(shape)
        np.testing.assert_allclose(projected[image], wanted, atol=1e-5)


def test_unpooling_goes_to_the_first_of_the_largest():
    images = RNG.integers(0, 3, (12, 8, 8, 2)).astype(np.float32)  # every window has equals
    places = np.array([(image % 2, image // 4, image % 4) for image in range(12)])
    _, projected = project(Pool(), {}, images, 'pool', places)
    for image, place in enumerate(places):
        pooled = np.array(
            [[images[image, 2 * r : 2 * r + 3, 2 * c : 2 * c + 3].max((0, 1)) for c in range(4)] for r in range(4)]
        )
        np.testing.assert_array_equal(projected[image], naive_unpool(one_cell(pooled, place), images[image]))


@pytest.mark.parametrize('activation', ['relu', 'tanh'])
def test_it_is_the_deconvnet_of_the_paper(activation):
    """Unpool, rectify, filter; response normalization is passed; what can be negative is not rectified."""
    model = Small(activation=activation)
    variables = random_variables(model, (23, 23, 3))
    images = numbers(4, 23, 23, 3)
    found = jax.device_get(activations(model, variables, images))
    places = np.array([(unit, *divmod(int(np.argmax(found['pool2'][unit, ..., unit])), 3)) for unit in range(4)])
    _, projected = project(model, variables, images, 'pool2', places)
    rectify = (lambda signal: signal) if activation == 'tanh' else (lambda signal: np.maximum(signal, 0))
    kernels = [variables['params'][name]['kernel'] for name in ('conv1', 'conv2')]
    normalize = jax.jit(layers.local_response_norm)
    normalized = {name: np.asarray(normalize(found[name])) for name in ('conv1', 'conv2')}
    negative = 0
    for image, place in enumerate(places):
        signal = one_cell(found['pool2'][image], place)
        signal = rectify(naive_unpool(signal, normalized['conv2'][image]))
        signal = naive_transpose(signal, kernels[1], 1, 1, 2, (6, 6, 6))
        signal = naive_unpool(signal, normalized['conv1'][image])
        negative += (signal < 0).sum()
        signal = naive_transpose(rectify(signal), kernels[0], 2, 1, 1, (23, 23, 3))
        np.testing.assert_allclose(projected[image], signal, atol=1e-5)
    assert negative > 10  # so that rectifying them was a difference


def test_without_activations_it_is_the_gradient_times_the_activation():
    model = architectures.create('lenet_caffe')
    variables = random_variables(model, (28, 28, 1))
    images = numbers(2, 28, 28, 1)
    places = np.array([(7, 1, 2), (30, 3, 0)])
    values, projected = project(model, variables, images, 'pool2', places)

    @jax.jit
    @jax.grad
    def gradient(images):
        maps = architectures.activations(model, variables, images)['pool2']
        return maps[0, 1, 2, 7] * values[0] + maps[1, 3, 0, 30] * values[1]

    np.testing.assert_allclose(projected, gradient(images), atol=1e-4)


def test_subsampling_spreads():
    model = architectures.create('lenet5_1998')
    variables = random_variables(model, (32, 32, 1))
    values, projected = project(model, variables, numbers(1, 32, 32, 1), 'S2', np.array([(2, 5, 6)]))
    spread = np.zeros((28, 28, 6))
    spread[10:12, 12:14, 2] = values[0] * variables['params']['S2']['coefficient'][2]
    wanted = naive_transpose(spread, variables['params']['C1']['kernel'], 1, 0, 1, (32, 32, 1))
    np.testing.assert_allclose(projected[0], wanted, atol=1e-6)
    assert np.abs(wanted).max() > 1e-3


# The receptive field


@pytest.mark.parametrize(
    'name, layer, side, options',
    [
        ('lenet5', 'pool2', 32, {}),
        ('alexnet', 'pool1', 64, {'window': 1, 'round_up': True}),
        ('zfnet', 'layer2', 64, {'window': 1}),
        ('googlenet', 'pool2', 64, {}),
    ],
)
def test_an_activation_sees_its_box_and_nothing_else(name, layer, side, options):
    model = architectures.create(name, num_classes=10, **options)
    image = numbers(1, side, side, 1 if name == 'lenet5' else 3)
    variables = random_variables(model, image.shape[1:])
    (rows, _, _), field = deconvnet.chain(model, variables, image.shape[1:])[layer]
    with layers.plain_forms():
        maps = jax.jit(lambda images: architectures.activations(model, variables, images)[layer])
        row, column = rows // 2, rows - 1
        top, left, bottom, right = deconvnet.box(field, row, column, side)
        assert 0 < top < bottom < side and 0 < left < side
        before = maps(image)[0, row, column]
        outside = image + 10 * numbers(*image.shape)
        outside[:, top:bottom, left:right] = image[:, top:bottom, left:right]
        np.testing.assert_array_equal(maps(outside)[0, row, column], before)
        for edge in (np.s_[:, top, left:right], np.s_[:, bottom - 1, left:right], np.s_[:, top:bottom, left]):
            changed = image.copy()
            changed[edge] += 100
            assert (maps(changed)[0, row, column] != before).any()


def test_a_box_is_cut_with_the_pixels_beyond():
    image = RNG.random((5, 5, 3)).astype(np.float32)
    np.testing.assert_array_equal(deconvnet.cut(image, (1, 2, 4, 5)), image[1:4, 2:5])
    whole = deconvnet.cut(image, (-2, 3, 3, 8))
    assert whole.shape == (5, 5, 3) and (whole[:2] == np.float32(deconvnet.BEYOND)).all()
    np.testing.assert_array_equal(whole[2:, :2], image[:3, 3:])
    assert (whole[:, 2:] == np.float32(deconvnet.BEYOND)).all()


# The strongest


def test_the_strongest_are_the_strongest_and_an_image_counts_once():
    maps = RNG.integers(0, 30, (40, 4, 3, 5)).astype(np.float32)  # many equals
    batches = [slice(0, 6), slice(6, 25), slice(25, 40)]
    found = ((np.arange(40)[part], *map(np.asarray, deconvnet.peaks(jnp.asarray(maps[part])))) for part in batches)
    values, images, places = deconvnet.strongest(found, 9)
    for unit in range(5):
        order = sorted(range(40), key=lambda image: (-maps[image, ..., unit].max(), image))[:9]
        assert images[:, unit].tolist() == order
        for rank, image in enumerate(order):
            first = list(maps[image, ..., unit].ravel()).index(maps[image, ..., unit].max())
            assert (values[rank, unit], places[rank, unit]) == (maps[image, ..., unit].max(), first)
    assert deconvnet.strongest([(np.arange(2), values[:2], places[:2])], 9)[0].shape == (2, 5)


@pytest.fixture(scope='module')
def member():
    config = digits()
    model = architectures.create('lenet5', **config.architecture_options)
    variables = random_variables(model, (32, 32, 1))
    return scoring.Member(model, variables, config, protocols.create('single'), Pixels(config))


def test_from_the_data_to_the_projections(member):
    config, source = member.config, datasets.open_source('digits', 'test')
    layer, found = deconvnet.excited(member, source)
    assert layer == 'pool2' and len(found) == 9
    images, _ = loader.in_memory(source, Pixels(config).test_form)
    low, high = config.pixel_range
    pixels = np.float32(images) / 255 * (high - low) + low
    maps = np.asarray(architectures.activations(member.model, member.variables, pixels)['pool2'])
    largest = np.sort(maps.max((1, 2)), axis=0)[::-1][:9]
    by_mean = np.argsort(-largest.mean(0), kind='stable')[:9]
    assert [one.unit for one in found] == by_mean.tolist()
    for one in found:
        np.testing.assert_allclose(one.values, largest[:, one.unit], rtol=1e-4)
        np.testing.assert_allclose(maps[one.numbers, ..., one.unit].max((1, 2)), one.values, rtol=1e-4)
        np.testing.assert_array_equal(one.pixels, images[one.numbers])
        for (top, left, bottom, right), projection in zip(one.boxes, one.projections, strict=True):
            assert (bottom - top, right - left) == (16, 16) and top % 4 == left % 4 == 0
            inside = np.abs(projection[top:bottom, left:right]).sum()
            assert inside == pytest.approx(np.abs(projection).sum(), rel=1e-6) and inside > 0
    _, chosen = deconvnet.excited(member, source, 'conv1', '4,0')
    assert [one.unit for one in chosen] == [4, 0] and chosen[0].boxes[0][2] - chosen[0].boxes[0][0] == 5


def test_a_network_that_reads_bgr_is_drawn_in_rgb():
    config = digits(channels=3, channel_order='bgr')
    model = architectures.create('lenet5', **config.architecture_options)
    variables = random_variables(model, (32, 32, 3))
    variables['params']['conv1']['kernel'][:, :, 1:] = 0  # reads blue alone
    member = scoring.Member(model, variables, config, protocols.create('single'), Pixels(config))
    _, (one,) = deconvnet.excited(member, datasets.open_source('digits', 'test'), 'conv1', '2')
    assert not one.projections[..., :2].any() and one.projections[..., 2].any()


def test_the_same_inputs_give_the_same_file(member, tmp_path):
    for suffix in ('png', 'svg'):
        files = [tmp_path / f'{number}.{suffix}' for number in (0, 1)]
        for file in files:
            source = datasets.open_source('digits', 'test')
            deconvnet.draw(deconvnet.excited(member, source, 'pool1', '1,3')[1], file, 'title')
        assert files[0].read_bytes() == files[1].read_bytes()


# The networks that it supports


APPLIES = (
    'lenet5 lenet5_1998 lenet_caffe alexnet alexnet_owt zfnet zfnet_wide overfeat_fast overfeat_accurate googlenet '
    'bn_inception vgg_a vgg_a_lrn vgg_b vgg_c vgg_d vgg_e'
)


def chain_of(name, **options):
    model = architectures.create(name, **options)
    side, channels = {'lenet5': (32, 1), 'googlenet': (224, 3), 'vgg_d': (224, 3)}.get(name, (227, 3))
    shape = (side, side, channels)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), 'float32'))
    return deconvnet.chain(model, variables, shape)


def test_the_chain_ends_at_the_logits_or_the_first_branches():
    assert [*chain_of('lenet5')] == ['conv1', 'pool1', 'conv2', 'pool2', 'fc1', 'fc2']
    alexnet = chain_of('alexnet')
    convolutions = ['conv1', 'pool1', 'conv2', 'pool2', 'conv3', 'conv4', 'conv5', 'pool5']
    assert [*alexnet] == [*convolutions, 'fc6', 'fc7']
    assert alexnet['conv5'][0] == (13, 13, 256) and alexnet['conv5'][1].size == 163
    assert deconvnet.find_layer('', alexnet) == 'pool5'
    assert [*chain_of('googlenet')] == ['conv1', 'pool1', 'conv2_reduce', 'conv2', 'pool2']


@pytest.mark.slow
@pytest.mark.parametrize('name', APPLIES.split())
def test_every_layer_of_every_chain_can_be_projected(name):
    model = architectures.create(name)
    shape = catalogue.NETWORKS[name].input_shape
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, *shape), 'float32'))
    known = deconvnet.chain(model, variables, shape)
    assert len(known) >= 5
    for layer, (size, _) in known.items():
        images, places = jax.ShapeDtypeStruct((2, *shape), 'float32'), jax.ShapeDtypeStruct((2, 3), 'int32')
        values, projected = quickly(functools.partial(jax.eval_shape, project, model, variables, images, layer, places))
        assert values.shape == (2,) and projected.shape == (2, *shape) and min(size) > 0


def test_other_networks_get_the_list_of_those_it_applies_to():
    assert deconvnet.applies_to() == sorted(APPLIES.split(), key=architectures.names().index)
    for name in ('densenet121', 'resnet20', 'prelu_net_a'):
        with pytest.raises(UserError, match='is not one; it applies to lenet5, .*googlenet, .*vgg_e$'):
            deconvnet.chain(architectures.create(name), {}, (224, 224, 3))


def test_wrong_layers_and_units_are_reported(member):
    source = datasets.open_source('digits', 'test')
    with pytest.raises(UserError, match="no layer 'conv3' to project, did you mean conv2. There are: conv1, pool1"):
        deconvnet.excited(member, source, 'conv3')
    with pytest.raises(UserError, match='conv1 has the units 0 to 5, and --units names 6'):
        deconvnet.excited(member, source, 'conv1', '2,6')
    with pytest.raises(UserError, match='--units must be comma-separated numbers'):
        deconvnet.excited(member, source, 'conv1', '2,')


def test_the_command(script, digits_run, tmp_path):
    out = tmp_path / 'units.html'
    given = ['deconvnet', '--checkpoint', digits_run[1], '--out', out]
    done = script('visualize.py', *given, '--layer=conv2', '--units=3,5')
    assert done.returncode == 0 and not done.stderr, done.stderr
    text = out.read_text()
    assert '<title>conv2: the 9 strongest' in text and '360 images of digits/test' in text
    done = script('visualize.py', *given, '--layer=conv9')
    assert done.returncode == 2 and "no layer 'conv9'" in done.stderr

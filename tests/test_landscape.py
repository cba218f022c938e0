"""The loss landscape: its plane, its numbers against the evaluator's, and how it resumes after an interruption."""

import flax.linen as nn
import jax
import numpy as np
import pytest
from conftest import digits, evaluate_folder
from jax.sharding import AxisType, Mesh

import architectures
from configs import base
from evaluation import protocols, scoring
from figures import landscape
from figures.inputs import Network
from input_pipeline.pixels import Pixels
from runtime.errors import UserError

SMALL = {'split': 'test', 'count': 360, 'points': 3, 'span': 0.5}


@pytest.fixture(scope='module')
def trained(digits_run):
    """(config, workdir) of LeNet-5 after some passes over the digits."""
    config, workdir = digits_run
    return config, str(workdir)


class Small(nn.Module):
    """A convolution, batch norm with statistics other than 0 and 1, and a fully connected layer."""

    @nn.compact
    def __call__(self, x, train=False):
        x = nn.Conv(6, (3, 3), strides=4)(x)
        x = nn.relu(nn.BatchNorm(not train)(x))
        return nn.Dense(10)(x.mean((1, 2)))


def small():
    """(member, data) of a random network, and 12 images in batches of 8."""
    config = base.get_config()
    config.channels, config.test_batch_size = 3, 8
    model = Small()
    variables = jax.jit(model.init)(jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))
    variables['batch_stats'] = jax.tree.map(lambda x: x + 0.3, variables['batch_stats'])
    member = scoring.Member(model, variables, config, protocols.create('single'), Pixels(config))
    return member, landscape.images(member, 'test', 12, seed=0)


def mesh_of(devices):
    return Mesh(np.array(jax.devices()[:devices]).reshape(-1, 1), ('data', 'model'), axis_types=(AxisType.Auto,) * 2)


def test_filters_of_a_direction_have_the_norms_of_the_weights():
    model = architectures.create('resnet20', num_classes=10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32))['params']
    draws = np.random.default_rng(0)
    parameters = jax.tree.map(lambda leaf: draws.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
    drawn = landscape.direction(parameters, 0, 0)
    kernels = 0
    for weights, d in zip(jax.tree.leaves(parameters), jax.tree.leaves(drawn), strict=True):
        assert d.shape == weights.shape
        if weights.ndim == 1:  # biases, batch norm
            assert not d.any()
            continue
        kernels += 1
        for filter in range(weights.shape[-1]):
            own = np.linalg.norm(np.asarray(weights[..., filter]))
            assert np.linalg.norm(d[..., filter]) == pytest.approx(own, rel=1e-5)
        inside = np.corrcoef(d.ravel(), np.asarray(weights).ravel())[0, 1]
        assert abs(inside) < 5 / np.sqrt(d.size)  # random, not the weights themselves
    assert kernels == 20


def test_directions_are_those_of_their_seed():
    parameters = {'kernel': np.ones((3, 3, 2, 4), np.float32)}
    first, again, second, other = (
        landscape.direction(parameters, seed, number)['kernel'] for seed, number in ((1, 0), (1, 0), (1, 1), (2, 0))
    )
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - second).max() > 0.1 < np.abs(first - other).max()


def test_the_grid_has_the_checkpoint_in_its_middle():
    where = landscape.axis(21, 0.7)
    assert where[10] == 0
    np.testing.assert_allclose(where, np.linspace(-0.7, 0.7, 21), atol=1e-7)


def test_the_center_is_the_loss_of_the_evaluator(trained, tmp_path):
    config, workdir = trained
    landscape.make(tmp_path / 'l.png', config, [workdir], **SMALL)
    _, (surface,) = landscape.read(tmp_path / 'l.png.npz')
    result = evaluate_folder(config, workdir)
    assert surface[1, 1] == pytest.approx(result['loss'], rel=1e-5)
    assert surface.min() == surface[1, 1]


def test_a_point_is_the_loss_of_the_moved_weights():
    member, data = small()
    parameters = member.variables['params']
    first, second = (landscape.direction(parameters, 3, number) for number in (0, 1))
    (loss,) = landscape.losses_of(member, first, second, data, mesh_of(1))([[0.3, -0.2]])
    moved = jax.tree.map(lambda w, a, b: w + np.float32(0.3) * a - np.float32(0.2) * b, parameters, first, second)
    low, high = member.config.pixel_range
    pixels = low + (high - low) * data['image'].reshape(-1, 32, 32, 3)[:12].astype(np.float32) / 255
    logits = member.model.apply({**member.variables, 'params': moved}, pixels, train=False)
    own = jax.nn.log_softmax(logits)[np.arange(12), data['label'].ravel()[:12]]
    assert loss == pytest.approx(-float(own.mean()), rel=1e-4)


def test_devices_do_not_change_the_numbers():
    member, data = small()
    first, second = (landscape.direction(member.variables['params'], 0, number) for number in (0, 1))
    places = np.random.default_rng(0).uniform(-1, 1, (8, 2))
    one, eight = (landscape.losses_of(member, first, second, data, mesh_of(size))(places) for size in (1, 8))
    np.testing.assert_array_equal(one, eight)
    assert len(set(one.tolist())) == 8


def test_an_interrupted_one_continues(trained, tmp_path, monkeypatch):
    config, workdir = trained
    whole, cut = tmp_path / 'whole.png', tmp_path / 'cut.png'
    monkeypatch.setattr(landscape.mesh, 'of_this_process', lambda: mesh_of(1))
    landscape.make(whole, config, [workdir, workdir], **SMALL)
    make, calls = landscape.losses_of, []

    def losses_of(*arguments):
        evaluate = make(*arguments)

        def counted(places):
            if len(calls) == 4:  # in the middle of the second network
                raise KeyboardInterrupt
            calls.append(places)
            return evaluate(places)

        return counted

    monkeypatch.setattr(landscape, 'losses_of', losses_of)
    with pytest.raises(KeyboardInterrupt):
        landscape.make(cut, config, [workdir, workdir], **SMALL)
    assert not cut.exists()
    _, surfaces = landscape.read(f'{cut}.npz')
    assert [int(np.isnan(surface).sum()) for surface in surfaces] == [0, 6]
    calls[:] = []
    landscape.make(cut, config, [workdir, workdir], **SMALL)
    assert len(calls) == 2  # two rows were missing
    assert cut.read_bytes() == whole.read_bytes()
    np.testing.assert_array_equal(landscape.read(f'{cut}.npz')[1], landscape.read(f'{whole}.npz')[1])


def test_numbers_of_another_landscape_are_left_alone(trained, tmp_path):
    config, workdir = trained
    out = tmp_path / 'l.svg'
    landscape.make(out, config, [workdir], **SMALL)
    held = (tmp_path / 'l.svg.npz').read_bytes()
    for changes, word in (({'seed': 1}, 'seed'), ({'points': 5}, 'points'), ({'count': 100}, 'images')):
        with pytest.raises(UserError, match=f'another landscape: {word} was'):
            landscape.make(out, config, [workdir], **SMALL | changes)
    assert (tmp_path / 'l.svg.npz').read_bytes() == held
    (tmp_path / 'l.svg.npz').write_bytes(b'rubbish')
    with pytest.raises(UserError, match='is not the file of a landscape'):
        landscape.make(out, config, [workdir], **SMALL)


def test_losses_beyond_all_numbers_are_drawn(tmp_path):
    surface = np.full((3, 3), np.inf, np.float32)
    surface[1, 1] = 0.5
    network = Network(None, 'a network', None, None)
    landscape._draw(tmp_path / 'l.html', [network.title], [surface], landscape.axis(3, 1.0), 'data')
    assert (tmp_path / 'l.html').read_text().startswith('<!doctype html>')


@pytest.mark.parametrize(
    ('changes', 'says'), [({'points': 4}, 'odd'), ({'span': 0.0}, '--span'), ({'count': 0}, '--c')]
)
def test_what_cannot_be_drawn_is_reported(changes, says, tmp_path):
    with pytest.raises(UserError, match=says):
        landscape.make(tmp_path / 'l.png', digits(), ['nowhere'], **SMALL | changes)

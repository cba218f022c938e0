"""Schedules, losses, optimizers, the step: against NumPy and against themselves on other devices."""

import functools

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import architectures
from architectures.layers import Network
from configs import lenet_caffe
from input_pipeline import loader
from input_pipeline.pixels import scale_range
from runtime import mesh
from runtime.errors import UserError
from training import losses, optimizers, schedules, sdlm, step


def test_a_step_schedule_drops_at_the_epochs_of_the_table():
    # LeNet-5 (LeCun et al. 1998, section III.B): 60,000 patterns a pass, one at a time.
    rates = ((2, 5e-4), (3, 2e-4), (3, 1e-4), (4, 5e-5), (8, 1e-5))
    schedule = jax.jit(
        schedules.steps_of_rates(rates, functools.partial(schedules.steps_at, num_examples=60_000, batch_size=1))
    )
    by_pass = [5e-4] * 2 + [2e-4] * 3 + [1e-4] * 3 + [5e-5] * 4 + [1e-5] * 8
    assert len(by_pass) == 20
    for number, rate in enumerate(by_pass):
        for at in (number * 60_000, number * 60_000 + 59_999):
            assert float(schedule(at)) == pytest.approx(rate)
    assert float(schedule(10**7)) == pytest.approx(1e-5)


def test_epochs_that_are_not_a_multiple_of_the_batch_size():
    assert [schedules.steps_at(e, 1437, 32) for e in (0, 1, 2, 30)] == [0, 45, 90, 1348]
    assert schedules.steps_at(0.5, 1000, 10) == 50


@pytest.mark.parametrize('rates', [(), ((1, -1.0),), ((0, 0.1),), (1, 0.1)])
def test_rates_are_checked(rates):
    with pytest.raises(UserError, match=r'pairs of \(epochs, rate\)'):
        schedules.steps_of_rates(rates, functools.partial(schedules.steps_at, num_examples=100, batch_size=10))


def test_losses_of_the_papers():
    penalties = np.random.default_rng(0).uniform(0.5, 9, 10).astype(np.float32)
    # Eq. 8 and Eq. 9 with j = 1
    assert float(losses.penalty(-penalties, 3)) == pytest.approx(penalties[3])
    expected = penalties[3] + np.log(np.exp(-1) + np.exp(-penalties).sum())
    assert float(losses.create('discriminative_penalty', 1.0)(-penalties, 3)) == pytest.approx(expected, rel=1e-5)
    softmax = np.exp(-penalties) / np.exp(-penalties).sum()
    assert float(losses.cross_entropy(-penalties, 3)) == pytest.approx(-np.log(softmax[3]), rel=1e-5)
    with pytest.raises(UserError, match='did you mean cross_entropy'):
        losses.create('crossentropy')


def schedule_of(name, num_examples=1000, batch_size=10, start=(0, 0), **changes):
    values = {
        'rates': ((1, 0.01),), 'rate': 0.1, 'factor': 0.96, 'every': 8.0, 'power': 0.5, 'num_epochs': 90.0, **changes
    }  # fmt: skip
    return schedules.create(name, num_examples=num_examples, batch_size=batch_size, start=start, **values)


def test_the_rate_decays_every_so_many_epochs():
    # GoogLeNet: Caffe's reproduction has 0.01, times 0.96 each 320,000 steps of 32.
    schedule = jax.jit(schedule_of('every', num_examples=1_281_167, batch_size=32, rate=0.01, every=8.0))
    epochs = schedules.steps_at(8, 1_281_167, 32)
    assert epochs == 320_292
    for drops, at in ((0, 0), (0, epochs - 1), (1, epochs), (29, 30 * epochs - 100)):
        np.testing.assert_allclose(schedule(at), 0.01 * 0.96**drops, rtol=1e-5)


def test_polynomial_and_cosine_end_at_zero():
    for name, half in (('polynomial', 0.1 * 0.5**0.5), ('cosine', 0.05)):
        schedule = jax.jit(schedule_of(name))
        assert float(schedule(0)) == pytest.approx(0.1, rel=1e-6)
        assert float(schedule(4500)) == pytest.approx(half, rel=1e-5)
        assert float(schedule(9000)) == pytest.approx(0.0, abs=1e-6)


def test_caffes_inv_is_its_formula_a_step():
    """Its LeNet: 0.01 (1 + 0.0001 k)^-0.75, batches of 64 of 60,000 images."""
    config = lenet_caffe.get_config()
    epochs = config.num_epochs
    rate = schedules.create('inverse', (), config.learning_rate, 1, epochs, config.decay_power, epochs, 60_000, 64)
    for k in (0, 1, 5_000, 9_999):
        np.testing.assert_allclose(rate(k), 0.01 * (1 + 0.0001 * k) ** -0.75, rtol=1e-5)


def test_a_schedule_continues_from_the_examples_that_were_seen():
    whole, resumed = (
        schedule_of('every', batch_size=10, every=1.0),
        schedule_of('every', batch_size=20, start=(50, 500), every=1.0),
    )
    assert float(whole(99)) == float(resumed(74)) and float(whole(100)) == float(resumed(75)) == pytest.approx(0.096)


@pytest.mark.parametrize(
    'name, changes, says',
    [
        ('step', {}, 'did you mean steps'),
        ('every', {'every': 0.0}, 'decay_every must be above 0'),
        ('cosine', {'rate': -1.0}, 'learning_rate must be above 0'),
    ],
)
def test_wrong_schedules_are_reported(name, changes, says):
    with pytest.raises(UserError, match=says):
        schedule_of(name, **changes)


def numpy_sgd(w, gradients, rates, momentum, decay, form):
    """The update rules as their codes write them; 'sutskever' returns the point where the next gradient is taken."""
    v = np.zeros_like(w)
    for g, e in zip(gradients, rates, strict=True):
        g = g + decay * w
        if form == 'torch':  # optim.sgd
            v = momentum * v + g
            w = w - e * v
        elif form == 'torch_nesterov':
            v = momentum * v + g
            w = w - e * (g + momentum * v)
        elif form == 'caffe':  # SGDSolver::ComputeUpdateValue
            v = momentum * v + e * g
            w = w - v
        elif form == 'cuda_convnet':
            v = momentum * v - e * g
            w = w + v
        elif form == 'sutskever':  # v <- m v - e g(w' + m v), w' <- w' + v, and w is w' + m v
            own = w - momentum * v
            v = momentum * v - e * g
            w = own + v + momentum * v
    return w


@pytest.mark.parametrize(
    'name, rate_inside, form',
    [
        ('sgd', False, 'torch'),
        ('sgd', True, 'torch'),
        ('momentum', False, 'torch'),
        ('nesterov', False, 'torch_nesterov'),
        ('momentum', True, 'caffe'),
        ('momentum', True, 'cuda_convnet'),
        ('nesterov', True, 'sutskever'),
    ],
)
def test_sgd_in_the_forms_of_the_papers_codes(name, rate_inside, form):
    rng = np.random.default_rng(0)
    w, gradients = rng.normal(size=5).astype(np.float32), rng.normal(size=(8, 5)).astype(np.float32)
    rates = [0.1] * 4 + [0.01] * 4
    optimizer = optimizers.create(name, momentum=0.9, weight_decay=0.01, rate_inside=rate_inside)
    params = follow(optimizer, jnp.asarray(w), map(jnp.asarray, gradients), rates)
    expected = numpy_sgd(w, gradients, rates, 0.0 if name == 'sgd' else 0.9, 0.01, form)
    chex.assert_trees_all_close(np.asarray(params), expected, rtol=1e-5)


def follow(optimizer, params, gradients, rates):
    """The parameters after these gradients, at these rates."""
    opt_state = optimizer.init(params)
    for gradient, rate in zip(gradients, rates, strict=True):
        updates, opt_state = optimizer.update(gradient, opt_state, params, rate=rate)
        params = optax.apply_updates(params, updates)
    return params


def test_after_a_drop_the_inside_form_keeps_its_old_velocity():
    gradients = [jnp.ones(1), jnp.zeros(1)]
    outside, inside = (
        follow(optimizers.create('momentum', 0.5, rate_inside=form), jnp.zeros(1), gradients, [1.0, 0.1])
        for form in (False, True)
    )
    np.testing.assert_allclose(outside, [-1 - 0.1 * 0.5], rtol=1e-6)
    np.testing.assert_allclose(inside, [-1 - 0.5], rtol=1e-6)


PARAMS = {
    'conv': {'kernel': jnp.ones((3, 3, 2, 4)), 'bias': jnp.ones(4)},
    'conv_bn': {'scale': jnp.ones(4), 'bias': jnp.ones(4)},
    'conv_prelu': {'slope': jnp.ones(4)},
    'fc': {'kernel': jnp.ones((4, 2)), 'bias': jnp.ones(2)},
}


@pytest.mark.parametrize(
    'decayed, kinds', [('all', {'kernel', 'bias', 'scale'}), ('weights', {'kernel'})]
)  # fb.resnet.torch; Caffe
def test_what_decays(decayed, kinds):
    optimizer = optimizers.create('momentum', weight_decay=0.1, decayed=decayed)
    after = follow(optimizer, PARAMS, [jax.tree.map(jnp.zeros_like, PARAMS)], [1.0])
    for layer in after.values():
        for kind, value in layer.items():
            np.testing.assert_allclose(value, 0.9 if kind in kinds else 1.0, rtol=1e-6)
    with pytest.raises(UserError, match='decayed must be one of all, weights'):
        optimizers.create('sgd', decayed='biases')


def test_biases_at_twice_the_rate():
    optimizer = optimizers.create('momentum', bias_rate=2.0)
    after = follow(optimizer, PARAMS, [jax.tree.map(jnp.ones_like, PARAMS)], [0.1])
    for layer in after.values():
        for kind, value in layer.items():
            np.testing.assert_allclose(value, 0.8 if kind == 'bias' else 0.9, rtol=1e-6)


def test_the_gradients_norm_is_clipped_before_the_decay():
    optimizer = optimizers.create('sgd', weight_decay=0.5, clip_norm=1.0)
    after = follow(optimizer, jnp.array([2.0, 2.0]), [jnp.array([30.0, 40.0])], [1.0])
    np.testing.assert_allclose(after, [2 - 0.6 - 1, 2 - 0.8 - 1], rtol=1e-6)


def test_an_unknown_optimizer_is_reported():
    with pytest.raises(UserError, match='did you mean adam'):
        optimizers.create('adma')


IMAGES = np.random.default_rng(0).integers(0, 256, (40, 32, 32, 1), np.uint8)
LABELS = np.arange(40, dtype=np.int32) % 10
MODEL = architectures.create('lenet5')
OPTIMIZER = optimizers.create('momentum', momentum=0.9)
STEP = functools.partial(
    step.train_step,
    model=MODEL,
    loss=losses.cross_entropy,
    optimizer=OPTIMIZER,
    preprocess=lambda batch: scale_range(batch['image'], -0.1, 1.175),
    seed=0,
    rate=lambda step, controller: 0.01,
)


@pytest.fixture(scope='module')
def initial():
    return jax.jit(functools.partial(step.create_state, MODEL, OPTIMIZER, (32, 32, 1), 0))()


def batch_of(indices, mask=None):
    mask = np.ones(len(indices), bool) if mask is None else mask
    indices = np.asarray(indices, np.int32)
    return loader.gather(IMAGES, LABELS, indices, np.zeros_like(indices)) | {'mask': mask}


def test_many_steps_in_a_dispatch_are_the_steps_one_by_one(initial):
    order = np.random.default_rng(1).permutation(40).astype(np.int32)
    one = jax.jit(STEP)
    expected = initial
    for start in range(0, 40, 8):
        expected = one(expected, batch_of(order[start : start + 8]))
    grid = mesh.create(8, jax.devices()[:1])
    many = jax.jit(step.resident_steps(STEP, 8, mesh.batch_sharding(grid)))
    padded = np.stack([np.concatenate([order, np.zeros(40, np.int32)]), np.zeros(80, np.int32)])  # numbers, epochs
    result = many(initial, IMAGES, LABELS, padded, 5)
    assert int(result.order_digest) == int(expected.order_digest) and int(result.step) == 5
    chex.assert_trees_all_close(result.params, expected.params, rtol=1e-5, atol=1e-6)
    assert int(result.window['count']) == 40 and int(result.window['wrong']) == int(expected.window['wrong'])
    # two dispatches of the very same program: equal to the bit
    halves = many(many(initial, IMAGES, LABELS, padded, 2), IMAGES, LABELS, np.roll(padded, -16, axis=1), 3)
    chex.assert_trees_all_equal(halves, result)


def test_one_device_and_eight_agree(initial, eight_devices):
    order = np.stack([np.arange(40), np.zeros(40)]).astype(np.int32)
    results = []
    for devices in (jax.devices()[:1], jax.devices()):
        grid = mesh.create(8, devices)
        placed = jax.device_put((initial, IMAGES, LABELS, order), mesh.replicated(grid))
        results.append(jax.jit(step.resident_steps(STEP, 8, mesh.batch_sharding(grid)))(*placed, 5))
    assert results[1].params['conv1']['kernel'].sharding.num_devices == 8
    one, eight = jax.device_get(results)
    assert one.order_digest == eight.order_digest
    chex.assert_trees_all_close(one.params, eight.params, rtol=1e-4, atol=1e-5)


def test_masked_examples_count_for_nothing(initial):
    one = jax.jit(STEP)
    mask = np.array([True] * 6 + [False] * 2)
    whole, part = one(initial, batch_of(np.arange(8), mask)), one(initial, batch_of(np.arange(6)))
    chex.assert_trees_all_close(whole.params, part.params, rtol=1e-5, atol=1e-6)
    assert int(whole.window['count']) == 6


def test_order_digest_does_not_depend_on_the_batch_size():
    order = np.random.default_rng(0).integers(0, 1000, 24).astype(np.int32)
    digests = set()
    for size in (1, 4, 24):
        digest = jnp.zeros((), jnp.uint32)
        for start in range(0, 24, size):
            digest = step.digest_order(digest, order[start : start + size])
        digests.add(int(digest))
    assert len(digests) == 1
    swapped = order.copy()
    swapped[[3, 4]] = order[[4, 3]]
    assert int(step.digest_order(jnp.zeros((), jnp.uint32), swapped)) not in digests


def test_the_first_step_that_is_not_finite_is_reported(initial):
    broken = initial.replace(step=jnp.int32(7), params=jax.tree.map(lambda x: x * jnp.nan, initial.params))
    after = jax.jit(STEP)(initial, batch_of(np.arange(8)))
    assert step.nonfinite_step(after.window) is None
    one = jax.jit(STEP)
    assert step.nonfinite_step(one(one(broken, batch_of(np.arange(8))), batch_of(np.arange(8))).window) == 7


def test_errors_are_counted_against_ties_and_nans():
    """An example is right only when its class beats all others; a network of equal scores knows nothing."""
    logits = np.zeros((5, 10), np.float32)
    logits[1, 3] = 1  # right
    logits[2, :4] = [4, 3, 2, 1]  # label 3 is fourth: in the top 5
    logits[3] = np.nan
    logits[4, 0] = 9  # masked

    class Fixed:
        def apply(self, *_, **__):
            return jnp.asarray(logits)

    mask = np.arange(5) < 4
    batch = {'image': 0, 'index': 0, 'label': np.full(5, 3, np.int32), 'mask': mask, 'bad': ~mask}
    counts = step.count_errors({}, batch, model=Fixed(), loss=losses.cross_entropy, preprocess=lambda _: None)
    assert {k: int(v) for k, v in counts.items() if k != 'loss'} == {
        'count': 4, 'wrong_top1': 3, 'wrong_top5': 2, 'bad': 1,
    }  # fmt: skip


def test_meshes(eight_devices):
    assert mesh.create(1).size == 1  # LeNet-5's batch of one
    assert mesh.create(16).size == 8
    with pytest.raises(UserError, match='use a multiple of 8'):
        mesh.create(12)


@pytest.mark.slow
def test_sdlm_refresh_fills_the_curvature(initial):
    optimizer = optimizers.create('sdlm')
    for name, options in (('lenet5', {}), ('lenet5_1998', {}), ('lenet5_1998', {'output': 'dense'})):
        model = architectures.create(name, **options)
        fresh = jax.jit(functools.partial(step.create_state, model, optimizer, (32, 32, 1), 0))()
        refresh = functools.partial(
            sdlm.refresh_curvature,
            model=model,
            loss=losses.create('discriminative_penalty'),
            preprocess=lambda batch: scale_range(batch['image'], -0.1, 1.175),
            memory=0.0,
        )
        h = optax.tree.get(jax.jit(refresh)(fresh, IMAGES, LABELS, np.arange(40)).opt_state, 'curvature')
        chex.assert_trees_all_equal_shapes(h, fresh.params)
        chex.assert_tree_all_finite(h)
        assert all(float(x.min()) >= 0 and float(x.max()) > 0 for x in jax.tree.leaves(h))


class _WithHead(Network):
    """A linear classifier with an auxiliary head of its own parameters."""

    num_classes: int = 4

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        if train:
            net.auxiliary('head', net.logits('head', images, dense=False))
        return net.logits('main', images, dense)


def test_the_loss_weighs_auxiliary_heads_and_the_metrics_leave_them_out():
    model, loss = _WithHead(), losses.create('cross_entropy')
    rate = 0.5
    start = step.create_state(model, optimizers.create('sgd'), (1, 1, 6), 0)
    assert set(start.params) == {'main', 'head'}
    images = jax.random.normal(jax.random.key(1), (8, 1, 1, 6))
    labels = jnp.arange(8, dtype=jnp.int32) % 4
    batch = loader.gather(images, labels, jnp.arange(8), jnp.zeros_like(labels))
    one = functools.partial(
        step.train_step,
        model=model,
        loss=loss,
        optimizer=optimizers.create('sgd'),
        preprocess=lambda batch: batch['image'],
        seed=0,
        rate=lambda step, controller: rate,
    )
    after = jax.jit(functools.partial(one, auxiliary_weight=0.3))(start, batch)

    def head_loss(params, name):
        logits = images[:, 0, 0] @ params[name]['kernel'] + params[name]['bias'][None]
        return jnp.mean(jax.vmap(loss)(logits, labels))

    for name, weight in (('main', 1.0), ('head', 0.3)):
        gradient = jax.grad(head_loss)(start.params, name)[name]
        expected = jax.tree.map(lambda p, g, w=weight: p - rate * w * g, start.params[name], gradient)
        chex.assert_trees_all_close(after.params[name], expected, rtol=1e-5, atol=1e-6)
    assert float(after.window['loss']) / 8 == pytest.approx(float(head_loss(start.params, 'main')), rel=1e-5)

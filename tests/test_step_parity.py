"""Ten steps of training against PyTorch's, recorded: the losses, and parameters and batch statistics after them."""

import golden
import jax
import numpy as np
import pytest
from golden import steps

pytestmark = pytest.mark.optimized


@pytest.mark.slow
@pytest.mark.parametrize('name', steps.names())
def test_ten_steps_are_those_of_pytorch(name):
    record = steps.load(name)
    initial = steps.variables(record.setting)
    losses, after = steps.train(record.setting, initial)
    norms, moves, samples = steps.measure(initial, after)
    _, _, samples_before = steps.measure(initial, initial)
    leaves = jax.tree_util.tree_leaves_with_path(initial)
    names = [golden.name_of(path) for path, _ in leaves]

    def rms(values):
        return np.sqrt(np.mean(values**2, axis=1))

    def check(errors, tolerance):
        worst = np.argmax(errors)  # NaN, if there is one
        assert errors[worst] <= tolerance, names[worst]

    np.testing.assert_allclose(losses, record.losses, rtol=steps.LOSS_TOLERANCE)
    size = record.norms / np.sqrt([leaf.size for _, leaf in leaves])
    apart = np.abs(samples - record.samples)
    check(np.abs(norms / record.norms - 1), steps.TOLERANCE)
    check(apart.max(axis=1) / size, steps.TOLERANCE)
    # Some tensors move by less than that in ten steps, and weight decay alone moves none as far: so moves are held too.
    check(np.abs(moves / record.moves - 1), steps.MOVE_TOLERANCE)
    check(rms(apart) / rms(record.samples - samples_before), steps.MOVE_TOLERANCE)

    # A network that does not move must not pass.
    assert losses[-1] < losses[0] - 1
    parameters = [name.startswith('params/') for name in names]
    assert np.linalg.norm(record.moves[parameters]) > steps.TOLERANCE * np.linalg.norm(record.norms[parameters])


def test_the_networks_of_the_decade_have_their_records():
    assert {steps.load(name).setting.network for name in steps.names()} == {'alexnet_owt', 'vgg_a', 'resnet18'}
    assert {steps.load(name).setting.optimizer for name in steps.names()} == {'momentum', 'nesterov'}

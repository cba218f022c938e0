import golden
import numpy as np
import pytest

from benchmarks import peers

pytestmark = pytest.mark.optimized
# One of a family; the others are of the same code, at other depths and widths.
QUICK = {'alexnet_owt', 'vgg_a', 'resnet18', 'resnet20', 'wrn_40_4', 'resnext50_32x4d', 'densenet121', 'se_resnet50'}
FILES = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in golden.names()]


@pytest.mark.parametrize('name', FILES)
def test_logits_are_those_of_the_network_in_pytorch(name):
    stored = golden.load(name)
    # The network is compiled as ever; what is left out is LLVM's polish, most of the seconds that compiling takes.
    logits, _ = golden.run(stored, xla_backend_optimization_level=0)
    assert logits.shape == stored.logits.shape
    assert golden.disagreement(logits, stored.logits) < golden.TOLERANCE


def test_every_peer_has_its_logits():
    assert set(peers.PEERS) <= set(golden.names())


def test_filling_is_the_same_everywhere():
    known = np.array([[1716178, -4785903], [-4262719, 3072635]]) / 2**23
    np.testing.assert_array_equal(golden.uniform('params/conv1/kernel', (2, 2)), known)

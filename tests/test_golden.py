import functools

import golden
import numpy as np
import pytest
from conftest import quickly

from benchmarks import peers

# The rest takes seconds each.
QUICK = {'resnet20'}
# Compiled as for a user; of the others the quick forms are the same, and what XLA and LLVM make of them is not.
POLISHED = {'alexnet_owt', 'resnet18', 'resnet20', 'densenet121'}


def marks(name):
    return [*[pytest.mark.optimized] * (name in POLISHED), *[pytest.mark.slow] * (name not in QUICK)]


FILES = [pytest.param(name, marks=marks(name)) for name in sorted(golden.names(), key=POLISHED.__contains__)]


@pytest.mark.parametrize('name', FILES)
def test_logits_are_those_of_the_network_in_pytorch(name):
    stored = golden.load(name)
    logits, _ = quickly(functools.partial(golden.run, stored))
    assert logits.shape == stored.logits.shape
    assert golden.disagreement(logits, stored.logits) < golden.TOLERANCE


def test_every_peer_has_its_logits():
    assert set(peers.PEERS) <= set(golden.names())


def test_filling_is_the_same_everywhere():
    known = np.array([[1716178, -4785903], [-4262719, 3072635]]) / 2**23
    np.testing.assert_array_equal(golden.uniform('params/conv1/kernel', (2, 2)), known)

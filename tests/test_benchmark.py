"""What the benchmark of training measures: the recipe's own program, and its arithmetic."""

import json
import subprocess
import sys

import jax
import pytest
from conftest import ROOT

from architectures import catalogue, describe
from benchmarks import peers, timing, train
from training.run import Run, build_model

FACTS = {'device': 'NVIDIA H100 80GB HBM3', 'devices': 1, 'multiply_adds': 4_000_000_000}


def test_utilization_counts_two_operations_a_multiply_add_and_three_passes():
    # 2 x 3 x 4e9 operations an image: 989e12 / 24e9 images a second would be all of an H100 in bfloat16.
    assert train.utilization(989e12 / 24e9, FACTS, 'bfloat16') == pytest.approx(1)
    assert train.utilization(495e12 / 24e9, FACTS | {'devices': 2}, 'float32') == pytest.approx(0.5)
    assert train.utilization(100, FACTS | {'device': 'cpu'}, 'float32') is None
    assert train.utilization(100, FACTS | {'device': 'cpu'}, 'float32', peak=2.4e12) == pytest.approx(1)


@pytest.mark.parametrize(
    'name',
    [
        'resnet50',
        'alexnet_owt',
        'vgg_d',
        *(pytest.param(name, marks=pytest.mark.slow) for name in ('resnext50_32x4d', 'se_resnet50', 'densenet121')),
    ],
)
def test_what_is_timed_is_the_recipe_streamed_and_the_peer_s_network(name):
    config = train.config_of(name, 16, 224, 'bfloat16')
    run = Run(config)
    assert not run.resident and run.config.normalize == config.normalize and config.dtype == 'bfloat16'
    counted = sum(layer.multiply_adds for layer in describe.layers_of(build_model(config), (224, 224, 3)))
    expected = catalogue.NETWORKS[name].multiply_adds
    if name == 'resnet50':  # torchvision strides in the 3x3, and the paper's in the 1x1: 3.86e9
        assert expected < counted < 1.07 * expected
    else:
        assert counted == expected
    assert name in peers.PEERS


def test_a_peer_prints_its_seconds_and_then_its_facts():
    program = (
        'from benchmarks import timing; calls = []; '
        "timing.interleave(lambda: calls.append(1), lambda: {'calls': len(calls)})"
    )
    done = subprocess.run([sys.executable, '-c', program], input='go\ngo\n', cwd=ROOT, capture_output=True, text=True)
    first, second, facts = done.stdout.splitlines()
    assert float(first) >= 0 and float(second) >= 0
    assert json.loads(facts) == {'calls': 1 + 3}  # one in the round that warms up, then one untimed and two timed


def test_a_peer_that_ends_early_is_named(capfd):
    with pytest.raises(timing.Ended, match='nobody.* ended early'):
        timing.run_peers('train', ['jax|nobody|1|8|float32|'], 1)
    assert "no recipe 'nobody'" in capfd.readouterr().err


def test_a_timed_function_notes_its_calls():
    spans = []
    timed = train._Timed(jax.jit(lambda x: x + 1), spans)
    assert timed(1) == 2 and timed(2) == 3
    assert len(spans) == 2 and all(begin <= end for begin, end in spans)

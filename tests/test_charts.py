"""The numbers behind degradation, compare, timeline and depth."""

import itertools
import json

import jax
import numpy as np
import pytest
from conftest import digits, epoch_row
from jax.sharding import AxisType, Mesh
from matplotlib.text import Text

import architectures
import papers
from evaluation import evaluator, protocols, published, scoring
from evaluation.checkpoint import Checkpoint
from figures import compare, degradation, depth, style, timeline
from input_pipeline import datasets
from input_pipeline.pixels import Pixels
from papers.winners import HUMAN, WINNERS
from runtime.errors import UserError
from training import log
from weights import passport


def same_twice(tmp_path, make):
    """Whether a figure's file is the same to the byte when it is drawn again, in all its forms."""
    for suffix in style.SUFFIXES:
        first, second = tmp_path / f'1{suffix}', tmp_path / f'2{suffix}'
        make(first)
        make(second)
        assert first.read_bytes() == second.read_bytes()
        assert first.stat().st_size > 5_000


# degradation


def write_run(folder, network, test_errors, finished=True):
    """A workdir's config and log, with an epoch of 10 steps for each test error."""
    folder.mkdir(parents=True)
    (folder / 'config.json').write_text(json.dumps({'architecture': network, 'dataset': 'cifar10'}))
    lines = log.RunLog(folder)
    for epoch, error in enumerate(test_errors, 1):
        lines.write('train', 10 * epoch, {'total': 1.0}, error=error + 1.0)
        lines.write('epoch', 10 * epoch, {'total': 1.0}, **epoch_row(epoch, error + 1.5, error))
    if finished:
        lines.write('finished', 10 * len(test_errors), {'total': 1.0})
    lines.close()
    return str(folder)


def test_curves_are_those_of_the_log(tmp_path):
    curves = degradation.curves_of(write_run(tmp_path / 'plain56', 'plain56', [60.0, 30.0], finished=False))
    assert curves == degradation.Curves(
        'plain56', 'cifar10', [(10, 61.5), (20, 31.5)], [(10, 60.0), (20, 30.0)], 2, False
    )


def test_degradation_is_drawn(tmp_path):
    runs = [
        write_run(tmp_path / name, name, errors)
        for name, errors in (('plain20', [50.0, 20.0]), ('resnet20', [45.0, 18.0]), ('resnet56', [50.0, 15.0]))
    ]
    same_twice(tmp_path, lambda out: degradation.make(out, runs))


def test_missing_metrics_say_which_run_to_make(tmp_path):
    converted = tmp_path / 'weights'
    converted.mkdir()
    (converted / 'config.json').write_text(json.dumps({'architecture': 'resnet56'}))
    (converted / passport.NAME).write_text('{}')
    places = (
        (converted, 'resnet56', 'runs/resnet56'),  # not into the folder of published weights
        (tmp_path / 'plain20', 'plain20', tmp_path / 'plain20'),
        (tmp_path / 'x', 'NAME', tmp_path / 'x'),
    )
    for folder, recipe_file, workdir in places:
        told = rf'train one with python train.py --config configs/{recipe_file}\.py --workdir {workdir}'
        with pytest.raises(UserError, match=told):
            degradation.make(tmp_path / 'd.png', [str(folder)])


# timeline


def test_winners_of_every_year():
    assert [winner.year for winner in WINNERS] == list(range(2010, 2018))
    errors = [winner.top5 for winner in WINNERS]
    assert errors == sorted(errors, reverse=True)
    assert next(winner.year for winner in WINNERS if winner.top5 < HUMAN.top5) == 2015
    assert all(winner.table for winner in WINNERS)
    # GoogLeNet's seven networks on the validation images, the same as on the test images (Szegedy et al., table 2).
    assert WINNERS[4].top5 in [row.top5 for row in published.TABLES['googlenet3'].rows]


def test_the_timeline_is_drawn(tmp_path):
    same_twice(tmp_path, timeline.make)


# depth


def test_every_network_with_a_published_error_is_in_it():
    found = {one.name: one for one in depth.networks()}
    assert set(found) == {name for name in architectures.names() if name in papers.HEADLINES}
    resnet = found['resnet152']
    assert (resnet.parameters, resnet.multiply_adds, resnet.error) == (60_192_808, 11_282_415_616, 5.71)
    assert (resnet.measure, resnet.line, resnet.views) == ('top-5, ImageNet validation', 'plain, ResNet', 'ten crops')
    assert found['googlenet'].views == found['vgg_d'].views == 'more'
    assert found['wrn_28_10'].measure == 'top-1, CIFAR-10 test'


def test_names_overlap_nothing():
    with style.look():
        made = depth.draw(depth.networks())
        made.draw_without_rendering()  # annotations come to their places
        renderer = made.canvas.get_renderer()
        named = []
        for panel in made.axes:
            boxes = [Text.get_window_extent(text, renderer) for text in panel.texts]  # without lines to marks
            named.append([text.get_text() for text in panel.texts])
            for number, box in enumerate(boxes):
                assert panel.get_window_extent().contains(box.x0, box.y0)
                assert panel.get_window_extent().contains(box.x1, box.y1)
                for other in boxes[:number]:
                    apart = box.x1 <= other.x0 or other.x1 <= box.x0 or box.y1 <= other.y0 or other.y1 <= box.y0
                    assert apart
    assert [len(names) for names in named] == [36, 36, 9, 9]
    assert set(named[0] + named[2]) | {'plain18', 'resnet18', 'resnext50_32x4d', 'lenet5_1998'} == {
        one.name for one in depth.networks()
    }


def test_depth_is_drawn(tmp_path):
    depth.make(tmp_path / '1.svg')
    depth.make(tmp_path / '2.svg')
    assert (tmp_path / '1.svg').read_bytes() == (tmp_path / '2.svg').read_bytes()


# compare

COUNT = 200


@pytest.fixture(scope='module')
def data():
    return [compare.vectors(source) for source in datasets.open_splits(digits())]


@pytest.fixture(scope='module')
def trained(data):
    """{name: (classifier, the arrays that it keeps)} of 200 digits of 8x8."""
    found = {}
    for name, (classifier, keeps) in compare.classifiers(0).items():
        classifier.fit(data[0][0][:COUNT], data[0][1][:COUNT])
        found[name] = classifier, keeps(classifier)
    return found


def nodes(tree, node=0):
    """(splits, leaves) below a node of a tree."""
    if tree.children_left[node] < 0:
        return 0, 1
    below = [nodes(tree, children[node]) for children in (tree.children_left, tree.children_right)]
    return 1 + below[0][0] + below[1][0], below[0][1] + below[1][1]


def test_numbers_that_classifiers_keep(trained):
    counts = {name: compare.size(arrays)[0] for name, (_, arrays) in trained.items()}
    svm, forest = trained['SVM, RBF'][0], trained['random forest'][0]
    grown = [nodes(estimator.tree_) for estimator in forest.estimators_]
    assert counts == {
        'linear (logistic)': 10 * 64 + 10,
        '3 nearest neighbors': COUNT * 64 + COUNT,
        'SVM, RBF': sum(svm.n_support_) * (64 + 9) + 45 + 10,
        'random forest': sum(4 * splits + 10 * leaves for splits, leaves in grown),
        'MLP, 300 hidden': 64 * 300 + 300 + 300 * 10 + 10,
    }
    assert compare.size(trained['linear (logistic)'][1])[1] == 4 * 650  # it keeps float32
    assert compare.size(trained['random forest'][1])[1] == 8 * counts['random forest']


def test_the_counted_parameters_suffice_for_the_output(trained, data):
    images = data[1][0]
    linear, (weights, bias) = trained['linear (logistic)']
    np.testing.assert_array_equal(np.argmax(images @ weights.T + bias, 1), linear.predict(images))
    mlp, (first, second, shift, last) = trained['MLP, 300 hidden']
    np.testing.assert_array_equal(
        np.argmax(np.maximum(images @ first + shift, 0) @ second + last, 1), mlp.predict(images)
    )
    svm, (vectors, duals, offsets, counts) = trained['SVM, RBF']
    kernel = np.exp(-svm._gamma * ((images[:5, None] - vectors) ** 2).sum(2))
    ends = np.cumsum([0, *counts])
    votes = np.zeros((5, 10))
    for number, (i, j) in enumerate(itertools.combinations(range(10), 2)):
        ours, theirs = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        score = kernel[:, ours] @ duals[j - 1, ours] + kernel[:, theirs] @ duals[i, theirs] + offsets[number]
        votes[:, i] += score > 0
        votes[:, j] += score <= 0
    np.testing.assert_array_equal(votes.argmax(1), svm.predict(images[:5]))


@pytest.mark.slow
def test_accuracies_over_seeds(data):
    found = {one.name: one for one in compare.of_classifiers(*data, 300, 2)}
    for one in compare.of_classifiers(*data, 300, 1):
        assert one.accuracies == found[one.name].accuracies[:1]
    svm, linear = found['SVM, RBF'], found['linear (logistic)']
    assert min(svm.accuracies) > max(linear.accuracies) > 85
    assert svm.accuracies[0] != svm.accuracies[1]  # of other images


@pytest.mark.slow
def test_networks_are_compared_by_their_seeds(tmp_path, monkeypatch):
    config = digits()
    model = architectures.create('lenet5', num_classes=10)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 32, 32, 1), np.float32))
    one = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ('data', 'model'), axis_types=(AxisType.Auto,) * 2)
    monkeypatch.setattr(evaluator.mesh, 'of_this_process', lambda: one)

    def checkpoint(seed):
        draws = np.random.default_rng(seed)
        variables = jax.tree.map(lambda leaf: draws.normal(0, 0.1, leaf.shape).astype(np.float32), shapes)
        member = scoring.Member(model, variables, config, protocols.create('single'), Pixels(config))
        return Checkpoint(member, tmp_path, seed, '', None)

    (found,) = compare.of_networks(config, [checkpoint(0), checkpoint(1)])
    assert (found.name, found.parameters, found.memory, found.network) == ('lenet5', 61_706, 4 * 61_706, True)
    assert len(found.accuracies) == 2
    assert all(0 <= accuracy < 40 for accuracy in found.accuracies)  # they have not learned
    monkeypatch.setattr(compare.evaluation, 'open_members', lambda *_: [checkpoint(0)])
    monkeypatch.setattr(compare, 'of_networks', lambda *_: [found])
    for name in ('1.png', '2.png'):
        compare.make(tmp_path / name, config, ['one'], count=100, seeds=1)
    assert (tmp_path / '1.png').read_bytes() == (tmp_path / '2.png').read_bytes()


def test_a_comparison_that_cannot_be_made(tmp_path):
    with pytest.raises(UserError, match='--seeds must be above 0'):
        compare.make(tmp_path / 'c.png', digits(), ['nowhere'], seeds=0)


def test_numbers_are_short():
    assert [compare._short(value, '') for value in (650, 61_706, 47_080_000)] == ['650', '61.7k', '47.1M']
    assert [compare._short(value, 'B') for value in (650, 246_824)] == ['650 B', '247 kB']


def test_leaves_of_parameters_are_counted():
    arrays = jax.tree.leaves({'a': np.zeros((3, 4), np.float32), 'b': {'c': np.zeros(5, np.float64)}})
    assert compare.size(arrays) == (17, 88)

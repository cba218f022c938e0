"""The evaluator against naive loops that are written here, and against itself."""

import functools
import os

import jax
import naive
import numpy as np
import pytest
from conftest import quarter
from PIL import Image

import architectures
from architectures import layers
from configs import base, imagenet
from evaluation import checkpoint, label_sets, prediction, protocols, results, scoring
from input_pipeline import datasets, loader
from input_pipeline.example import Example
from input_pipeline.pixels import Pixels
from runtime.errors import UserError

RNG = np.random.default_rng(0)


def photographs(sizes):
    """Random photographs of these (height, width), smooth enough to be resized."""
    small = [RNG.integers(0, 256, (12, 12, 3), np.uint8) for _ in sizes]
    return [
        np.asarray(Image.fromarray(x).resize(size[::-1], Image.Resampling.BICUBIC))
        for x, size in zip(small, sizes, strict=True)
    ]


SIZES = [(375, 500), (500, 375), (256, 256), (300, 900), (375, 500)]
PHOTOGRAPHS = photographs(SIZES)


class Photographs:
    """A source of images in memory, of many sizes; a string stands for bytes that are not an image."""

    def __init__(self, images, num_classes=10):
        self.images, self.name, self.notes = images, 'photographs', []
        self.class_names = tuple(map(str, range(num_classes)))

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.images[index]
        return Example(image.encode() if isinstance(image, str) else image, index % 10, f'{index}.jpg')


def config_of(name, size=224, **options):
    config = imagenet.get_config()
    config.architecture, config.image_size, config.num_classes = name, size, 10
    config.architecture_options.update(options)
    config.normalize, config.mean = 'constant', 'caffe'
    config.test_crop.short_side = (max(256, size), max(256, size))
    return config


# What views and batches are does not depend on the depth; each network is compiled once a shape.
DEPTHS = {'resnet20': {'depth': 8}, 'resnet32': {'depth': 14}}


@functools.cache
def network(name, size, **options):
    """A network, and random weights whose logits differ between the photographs, by 3."""
    model = architectures.create(name, num_classes=10, **options)
    variables = jax.device_get(architectures.initialize(model, 0, (size, size, 3)))
    config = config_of(name, size, **options)
    member = scoring.Member(model, variables, config, None, Pixels(config))
    scores = naive.logits(member, np.stack([naive.middle(image, size, size) for image in PHOTOGRAPHS]))
    (last,) = (layer for layer in variables['params'].values() if layer.get('bias', np.zeros(0)).shape == (10,))
    scale = 3 / np.mean(np.std(scores, 0))
    last['kernel'], last['bias'] = last['kernel'] * scale, -scale * np.mean(scores, 0)
    return model, variables


def member_of(name, protocol, size=224, **options):
    options = DEPTHS.get(name, {}) | options
    model, variables = network(name, size, **options)
    config = config_of(name, size, **options)
    return scoring.Member(model, variables, config, protocols.create(protocol), Pixels(config))


def scored(members, images=PHOTOGRAPHS, batch_size=64, dense_batch=1):
    """{example: probabilities} by the evaluator."""
    scorer = scoring.Scorer(members, 1, batch_size, jax.device_put, dense_batch)
    examples = loader.map_images(Photographs(images), scorer.items, threads=2)
    return {example['index']: np.exp(logs) for example, logs in scorer.log_probabilities(examples)}


@pytest.fixture
def a_fourth(monkeypatch):
    """Networks have a fourth of their features: views are the same, and there is less to compute."""
    quarter(monkeypatch)
    network.cache_clear()
    yield
    network.cache_clear()


# Views, and naive loops over them


@pytest.mark.parametrize(
    'name, protocol',
    [
        ('resnet20', 'ten_crop_square:32'),
        ('resnet20', 'ten_crop_full:32'),
        ('resnet20', 'ten_crop_full_logits:32'),
        ('resnet20', 'ten_crop_cross:32'),
        ('resnet20', 'single_32'),
    ],
)
def test_crops_are_those_of_a_loop_over_them(name, protocol):
    member = member_of(name, protocol, 32)
    found = scored([member])
    for number, image in enumerate(PHOTOGRAPHS):
        np.testing.assert_allclose(found[number], naive.crops(member, image), atol=1e-5)


def test_the_144_views_of_googlenet():
    member = member_of('resnet20', 'googlenet_144:32', 32)
    found = scored([member], PHOTOGRAPHS[:2])
    for number in range(2):
        np.testing.assert_allclose(found[number], naive.crops(member, PHOTOGRAPHS[number]), atol=1e-5)


@pytest.mark.slow
def test_the_grids_dense_passes_and_their_mean(a_fourth):
    images = PHOTOGRAPHS[:2]
    dense, crop, both = (member_of('alexnet_owt', f'vgg_{kind}:256') for kind in ('dense', 'multicrop', 'both'))
    found = [scored([member], images) for member in (dense, crop, both)]
    for number, image in enumerate(images):
        expected = naive.dense(dense, image), naive.crops(crop, image)
        np.testing.assert_allclose(found[0][number], expected[0], atol=1e-5)
        np.testing.assert_allclose(found[1][number], expected[1], atol=1e-5)
        np.testing.assert_allclose(found[2][number], np.mean(expected, 0), atol=1e-5)


@pytest.mark.slow
def test_residual_networks_as_fully_convolutional_ones(a_fourth):
    member = member_of('resnet18', 'resnet_fcn:224,256')
    found = scored([member], PHOTOGRAPHS[:2])
    for number in range(2):
        np.testing.assert_allclose(found[number], naive.dense(member, PHOTOGRAPHS[number]), atol=1e-5)


@pytest.mark.slow
def test_overfeats_fine_stride_is_nine_pools_one_pixel_apart(a_fourth):
    """The map of scores, each cell by itself: the network on the image moved by 12 pixels for one of the last pool."""
    model, variables = network('overfeat_accurate', 221)
    image = RNG.normal(size=(1, 317, 317, 3)).astype(np.float32)
    fine = np.asarray(model.apply(variables, image, dense='fine'))
    coarse = np.asarray(model.apply(variables, image, dense=True))
    assert fine.shape == (1, 9, 9, 10) and coarse.shape == (1, 3, 3, 10)
    np.testing.assert_allclose(fine[:, ::3, ::3], coarse, atol=1e-4 * np.abs(coarse).max())
    ordinary = np.asarray(model.apply(variables, image[:, :221, :221]))
    alone = np.asarray(model.apply(variables, image[:, :221, :221], dense=True))[:, 0, 0]
    np.testing.assert_allclose(alone, ordinary, atol=1e-4 * np.abs(ordinary).max())


def test_interleaving_is_the_inverse_of_pooling_at_offsets():

    x = RNG.normal(size=(2, 8, 11, 3)).astype(np.float32)
    pooled = layers.max_pool_at_offsets(x, 3)
    assert pooled.shape == (18, 2, 3, 3)
    joined = np.asarray(layers.interleave(pooled, 3))
    for row in range(6):
        for column in range(9):
            window = x[:, row : row + 3, column : column + 3]
            np.testing.assert_array_equal(joined[:, row, column], window.max((1, 2)))


def test_ensembles_are_means_of_probabilities():
    first, second = member_of('resnet20', 'single_32', 32), member_of('resnet32', 'ten_crop_full:32', 32)
    each = [scored([member]) for member in (first, second)]
    together = scored([first._replace(weight=2.0), second])
    for number in range(len(PHOTOGRAPHS)):
        expected = (2 * each[0][number] + each[1][number]) / 3
        np.testing.assert_allclose(together[number], expected, atol=1e-6)


@pytest.mark.parametrize('batch_size', [1, 7, 128])
def test_results_do_not_depend_on_the_batch(batch_size):
    member = member_of('resnet20', 'ten_crop_full:32', 32)
    expected, found = scored([member]), scored([member], batch_size=batch_size)
    assert sorted(found) == list(range(len(PHOTOGRAPHS)))
    for number in expected:
        np.testing.assert_allclose(found[number], expected[number], atol=1e-6)


@pytest.mark.slow
def test_dense_batches_do_not_change_the_answer():
    member = member_of('resnet20', 'resnet_fcn:40,64', 32)
    expected, found = scored([member]), scored([member], dense_batch=3)
    for number in expected:
        np.testing.assert_allclose(found[number], expected[number], atol=1e-6)


@pytest.mark.slow
def test_what_waits_for_its_size_is_bounded(monkeypatch):
    """With no memory to wait in, every image goes through alone: the same answers."""
    member = member_of('resnet20', 'resnet_fcn:40,64', 32)
    expected = scored([member], dense_batch=8)
    monkeypatch.setattr(scoring, '_WAITING_BYTES', 0)
    found = scored([member], dense_batch=8)
    for number in expected:
        np.testing.assert_allclose(found[number], expected[number], atol=1e-6)


def test_sizes_are_compiled_once_and_few_for_crops():
    images = photographs([(300 + 7 * number, 400 + 11 * number) for number in range(20)])
    scorer = scoring.Scorer([member_of('resnet20', 'ten_crop_full:32', 32)], 1, 64, jax.device_put)
    list(scorer.log_probabilities(loader.map_images(Photographs(images), scorer.items)))
    assert len(scorer.programs) <= 2


# Rows and their totals


def test_ranks_and_ties():
    logs = np.log(np.array([0.1, 0.4, 0.4, 0.05, 0.05]))
    assert results.row(0, 'a', 1, logs).rank == 1  # a tie counts against the network
    assert results.row(0, 'a', 0, logs).rank == 2
    assert results.row(0, 'a', 1, logs).classes == (1, 2, 0, 3, 4)
    assert results.row(0, 'a', 0, logs, accepted=(0, 1)).rank == 1
    assert not results.row(0, 'a', 0, logs, accepted=()).counts
    assert results.row(0, 'a', 1, np.array([np.nan, -0.5])).rank >= 1


def test_what_rows_add_up_to():
    vectors = [np.where(np.eye(10)[k], 0.0, -np.inf) for k in (0, 1, 5)]
    rows = [results.row(k, str(k), k, vector) for k, vector in enumerate(vectors)] + [results.row(3, '3', 3, None)]
    found = results.summary(rows)
    assert (found['num_examples'], found['wrong_top1'], found['bad_images']) == (4, 2, 1)
    assert found['top1_error'] == 50
    low, high = found['top1_interval']
    assert low == pytest.approx(15.0, abs=0.1) and high == pytest.approx(85.0, abs=0.1)  # Wilson's of 2 in 4
    names = tuple(map(str, range(10)))
    assert results.confusions(rows, names) == [('2', '5', 1)]
    assert results.by_class(rows, names)[0] == (2, '2', 1, 100.0)


def test_predictions_and_submission(tmp_path):
    rows = [results.row(k, f'{9 - k}.jpg', 0, np.log(np.arange(1, 11) / 55)) for k in range(2)]
    names = tuple('abcdefghij')
    results.write_predictions(tmp_path / 'p.csv', rows, names)
    lines = (tmp_path / 'p.csv').read_text().splitlines()
    assert lines[0].startswith('file,label,class1,name1,probability1') and lines[1].startswith(
        '9.jpg,0,9,j,0.181818,8,i,'
    )
    results.write_submission(tmp_path / 's.txt', rows, {k: 10 * k for k in range(10)})
    assert (tmp_path / 's.txt').read_text() == '90 80 70 60 50\n' * 2


# Label sets


class Named:
    def __init__(self, names):
        self.class_names, self.name = names, 'folder'

    def __len__(self):
        return 3


def test_the_lists_of_imagenet_a_and_r():
    assert len(label_sets.IMAGENET_A) == len(set(label_sets.IMAGENET_A)) == 200
    assert len(label_sets.IMAGENET_R) == len(set(label_sets.IMAGENET_R)) == 200
    assert len(set(label_sets.IMAGENET_A) & set(label_sets.IMAGENET_R)) == 86
    assert (label_sets.IMAGENET_A[0], label_sets.IMAGENET_A[-1]) == (6, 988)
    assert (label_sets.IMAGENET_R[0], label_sets.IMAGENET_R[-1]) == (1, 988)


def test_label_sets(tmp_path):
    names = tuple(sorted(map(str, range(1000))))  # 0, 1, 10, 100, 101, ...
    chosen = label_sets.create('imagenet_v2', Named(names), 1000)
    assert chosen.label(names.index('10')) == 10
    some = label_sets.create('imagenet_a', Named(tuple(map(str, range(200)))), 1000)
    picked = np.exp(label_sets.restrict(np.log(np.arange(1, 1001)), some.classes))
    assert (
        picked.shape == (200,) and picked.sum() == pytest.approx(1) and picked[0] / picked[1] == pytest.approx(7 / 12)
    )
    (tmp_path / 'real.json').write_text('[[1, 2], [], [3]]')
    real = label_sets.create(f'real={tmp_path}/real.json', Named(('x',) * 1000), 1000)
    assert [real.accepted(k) for k in range(3)] == [(1, 2), (), (3,)]
    for text, says in (
        ('imagenet_b', 'no labels .imagenet_b.'),
        ('real=nowhere', 'cannot be read'),
        ('', 'has 3 classes'),
    ):
        with pytest.raises(UserError, match=says):
            label_sets.create(text, Named(('a', 'b', 'c')), 1000)


# Interrupted evaluations


def test_an_interrupted_evaluation_continues(tmp_path):
    path, rows = tmp_path / 'x.partial', [results.row(k, str(k), 0, np.full(10, -2.3)) for k in range(3)]
    with pytest.raises(KeyboardInterrupt), results.Partial(path, {'data': 'a'}, False, range(3)) as kept:
        for row in rows[:2]:
            kept.add(row)
        raise KeyboardInterrupt
    with open(path, 'a') as file:
        file.write('[2, "2"')  # killed in the middle of a line
    with pytest.raises(UserError, match='pass --resume to continue it'):
        results.Partial(path, {'data': 'a'}, False, range(3))
    with pytest.raises(UserError, match="data was 'a' and is now 'b'"):
        results.Partial(path, {'data': 'b'}, True, range(3))
    with results.Partial(path, {'data': 'a'}, True, range(3)) as kept:
        assert kept.rows == rows[:2]
        kept.add(rows[2])
        assert kept.rows == rows
        with pytest.raises(UserError, match='another process evaluates the same and writes'):
            results.Partial(path, {'data': 'a'}, True, range(3))
    assert path.exists()  # until the result is in a safe place
    with pytest.raises(UserError, match='the labels and the images differ; remove the file to start over'):
        path.write_text('{"data": {"labels": 1, "images": 2}}\n')
        results.Partial(path, {'data': {'labels': 3, 'images': 4, 'names': 5}}, True, range(3))


@pytest.mark.parametrize(
    'line, says',
    [
        ('[1, "1", 0, 0, 0.5, [0], [1.0], true]', 'image 1 occurs twice'),
        ('[3, "3", 0, 0, 0.5, [0], [1.0], true]', 'image 3 is not evaluated here'),
        ('[-1, "3", 0, 0, 0.5, [0], [1.0], true]', 'line 3 .*Expected `int` >= 0'),
        ('[2, "2", 0, 0, "0.5", [0], [1.0], true]', 'Expected `float`'),
        ('[2, "2", 0, 0, 0.5, [-1], [1.0], true]', 'Expected `int` >= 0'),
        ('[2]', 'line 3 .* is not a row of an evaluation'),
        ('null', 'Expected `array`, got `null`'),
        ('\0\0\0', 'Expecting value'),
    ],
)
def test_rows_are_unique_and_in_range(tmp_path, line, says):
    path = tmp_path / 'x.partial'
    path.write_text(f'{{"data": "a"}}\n[1, "1", 0, 0, 0.5, [0], [1.0], true]\n{line}\n')
    with pytest.raises(UserError, match=f'{says}.*; remove the file to start over'):
        results.Partial(path, {'data': 'a'}, True, range(3))


def test_a_partial_file_is_a_regular_file_of_an_evaluation(tmp_path):
    os.mkfifo(tmp_path / 'fifo')
    with pytest.raises(UserError, match='fifo is a FIFO, not a regular file'):
        results.Partial(tmp_path / 'fifo', {}, True, range(3))
    for text in ('\xff', '[]', '5', '\n'):
        (tmp_path / 'x').write_text(text, 'latin-1')
        with pytest.raises(UserError, match='x is not a file of an interrupted evaluation that can be read'):
            results.Partial(tmp_path / 'x', {}, True, range(3))
    (tmp_path / 'x').write_text('')  # killed before the first line
    with results.Partial(tmp_path / 'x', {}, True, range(3)) as kept:
        assert kept.rows == []
    assert not (tmp_path / 'x').exists()


def test_a_result_is_of_every_image_once():
    rows = [results.row(number, '', 0, np.zeros(10)) for number in range(4)]
    results.check_complete(rows, 4)
    for wrong in (rows[:3], [*rows, rows[0]], [*rows[:3], rows[0]]):
        with pytest.raises(UserError, match='results of [34] images, but the split has 4'):
            results.check_complete(wrong, 4)


# Broken images, wrong protocols


def test_a_broken_image_counts_as_wrong():
    member = member_of('resnet20', 'single_32', 32)
    scorer = scoring.Scorer([member], 1, 4, jax.device_put)
    examples = loader.map_images(Photographs([PHOTOGRAPHS[0], 'not an image']), scorer.items, on_bad_image='skip')
    rows = [results.row(e['index'], e['name'], e['label'], found) for e, found in scorer.log_probabilities(examples)]
    assert sorted(row.rank for row in rows)[0] == -1 and results.summary(rows)['bad_images'] == 1
    with pytest.raises(UserError, match='1.jpg'):
        list(loader.map_images(Photographs([PHOTOGRAPHS[0], 'not an image']), scorer.items))


@pytest.mark.parametrize(
    'name, size, protocol, says',
    [
        ('alexnet', 227, 'single_320', 'single_320 does not fit alexnet .*; these fit: single, .*vgg_dense'),
        ('vgg_a', 224, 'overfeat_fine:1', "it has no reading 'fine'"),
        ('alexnet', 227, 'vgg_dense:64', 'vgg_dense:64 does not fit alexnet'),
    ],
)
def test_a_protocol_that_does_not_fit_says_which_do(name, size, protocol, says):
    model = architectures.create(name, num_classes=10)
    variables = jax.eval_shape(model.init, jax.random.key(0), jax.ShapeDtypeStruct((1, size, size, 3), 'float32'))
    config = config_of(name, size)
    member = scoring.Member(model, variables, config, protocols.create(protocol), Pixels(config))
    with pytest.raises(UserError, match=says):
        checkpoint._check_fits(member)


# Predictions


def test_files(tmp_path):
    for name in ('b.png', 'a.jpg', 'notes.txt'):
        (tmp_path / name).write_bytes(b'')
    paths, notes = prediction.files([str(tmp_path)])
    assert paths == [str(tmp_path / 'a.jpg'), str(tmp_path / 'b.png')]
    assert notes == [f'{tmp_path}: 1 file or folder is skipped: notes.txt']
    with pytest.raises(UserError, match='does not exist'):
        prediction.files([str(tmp_path / 'none.jpg')])


def test_class_names():
    names = datasets.of_network(None, imagenet.get_config())
    assert len(names) == 1000 and names[0].startswith('tench') and names[999].startswith('toilet tissue')
    assert datasets.of_network(None, base.get_config())[9] == '9'

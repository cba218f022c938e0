"""`visualize.py errors`: its images are those that an evaluation counts as wrong, its words their classes."""

import numpy as np
import pytest
from conftest import evaluate_folder

import evaluation
from evaluation import apply, results
from figures import errors, inputs, style


def row(index, label, said, probability, rank=1, counts=True):
    return results.Row(index, str(index), label, rank, 1.0, (said, label), (probability, 0.1), counts)


def test_the_wrong_images_are_those_whose_largest_logit_is_not_their_class(digits_run):
    config, workdir = digits_run
    network = inputs.open_one(config, [workdir])
    source = inputs.open_data(config).source
    logits, numbers = apply.outputs(network.member, source, lambda model, v, images: model.apply(v, images))
    assert numbers.tolist() == list(range(360))
    expected = np.flatnonzero(logits.argmax(1) != source.labels)
    result, rows, _ = evaluation.evaluate(config, network.checkpoint)
    assert [row.index for row in errors.wrong(rows)] == expected.tolist()
    assert 0 < len(expected) == result['wrong_top1']


def test_the_most_confident_errors_are_chosen_and_ordered_by_class():
    rows = [row(0, 7, 1, 0.9), row(1, 2, 3, 0.5), row(2, 2, 1, 0.8), row(3, 2, 1, 0.7), row(4, 1, 2, 0.6)]
    assert [row.index for row in errors.most_confident(rows, 9)] == [4, 2, 3, 1, 0]
    assert [row.index for row in errors.most_confident(rows, 3)] == [2, 3, 0]


def test_unreadable_right_and_left_out_images_are_not_drawn():
    rows = [row(0, 1, 2, 0.9, rank=-1), row(1, 1, 1, 0.9, rank=0), row(2, 1, 2, 0.9, counts=False), row(3, 1, 2, 0.9)]
    assert [row.index for row in errors.wrong(rows)] == [3]


@pytest.mark.parametrize(
    'names, expected',
    [
        ('0123456789', ['4 → 9', '7 → 1']),
        (
            (
                '',
                'goldfish, Carassius auratus',
                '',
                '',
                'a name of more letters than there is room',
                '',
                '',
                'dog',
                '',
                'horse',
            ),
            ['a name of more l…', '→ horse', 'dog', '→ goldfish'],
        ),
    ],
)
def test_under_each_image_is_its_class_and_the_one_that_is_said(names, expected):
    with style.look():
        made = errors.draw([row(0, 4, 9, 0.9), row(1, 7, 1, 0.9)], [np.zeros((28, 28, 1))] * 2, names, 'title')
    (axes,) = made.axes
    assert [text.get_text() for text in axes.texts] == expected and len(axes.images) == 2
    extents = [image.get_extent() for image in axes.images]
    assert all(bottom > top for _, _, bottom, top in extents) and extents[0][1] < extents[1][0]  # upright, apart
    low, high = axes.get_ylim()[::-1]
    assert all(low < text.get_position()[1] < high for text in axes.texts)


@pytest.mark.parametrize('suffix', ['png', 'svg', 'html'])
def test_the_same_checkpoint_gives_the_same_file(digits_run, tmp_path, suffix):
    config, workdir = digits_run
    for name in 'ab':
        errors.make(tmp_path / f'{name}.{suffix}', config, [workdir], count=5)
    content = (tmp_path / f'a.{suffix}').read_bytes()
    assert content == (tmp_path / f'b.{suffix}').read_bytes()
    assert len(content) > 5_000


def test_the_command(digits_run, script, tmp_path):
    _, workdir = digits_run
    out = tmp_path / 'errors.html'
    done = script('visualize.py', 'errors', '--checkpoint', workdir, '--count', '4', '--out', out)
    assert done.returncode == 0, done.stderr
    wrong = evaluate_folder(*digits_run)['wrong_top1']
    assert f'{wrong} of 360 test images wrong; the 4 most confident of them, digits/test' in out.read_text()
    done = script('visualize.py', 'errors', '--checkpoint', workdir, '--count', '0', '--out', out)
    assert done.returncode == 2 and done.stderr.strip().endswith('--count must be at least 1, not 0')

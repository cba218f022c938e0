"""`visualize.py confusion`: the counts of a confusion matrix, as scikit-learn has them."""

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

import evaluation
from evaluation import apply, report, results
from figures import confusion, inputs, style
from runtime.errors import UserError


def row(label, classes, rank, counts=True):
    return results.Row(0, '', label, rank, 1.0, classes, (0.5,) * len(classes), counts)


def test_it_is_scikit_learns(digits_run):
    config, workdir = digits_run
    network, source = inputs.open_one(config, [workdir]), inputs.open_data(config).source
    logits, _ = apply.outputs(network.member, source, lambda model, v, images: model.apply(v, images))
    result, rows, names = evaluation.evaluate(config, network.checkpoint)
    counts = results.confusion_matrix(rows, len(names))
    np.testing.assert_array_equal(counts, confusion_matrix(source.labels, logits.argmax(1), labels=range(10)))
    assert counts.sum() - np.trace(counts) == result['wrong_top1'] > 0


def test_ties_are_errors_and_what_was_not_read_is_left_out():
    rows = [row(1, (1, 2), 1), row(1, (1, 2), 0), row(0, (), -1), row(2, (0, 2), 1), row(2, (0, 2), 1, counts=False)]
    assert results.confusion_matrix(rows, 3).tolist() == [[0, 0, 0], [0, 1, 1], [1, 0, 0]]


def test_the_classes_with_the_most_errors_are_drawn():
    counts = np.diag([9, 9, 9, 9])
    counts[3, 1], counts[0, 3] = 2, 1
    assert confusion.most_confused(counts, 4).tolist() == [0, 1, 2, 3]
    assert confusion.most_confused(counts, 2).tolist() == [1, 3]


def test_numbers_and_names_are_where_they_belong():
    counts = np.array([[3, 1], [0, 4]])
    with style.look():
        axes = confusion.draw(counts, np.arange(2), ('a cat', 'a dog'), 'title').axes[0]
    assert {text.get_text(): text.get_position() for text in axes.texts} == {'3': (0, 0), '1': (1, 0), '4': (1, 1)}
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ['a cat (4)', 'a dog (4)']
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ['a cat', 'a dog']
    np.testing.assert_allclose(axes.images[0].get_array(), [[75, 25], [0, 100]])


def test_the_same_checkpoint_gives_the_same_file(digits_run, tmp_path):
    config, workdir = digits_run
    for name in ('a.html', 'b.html'):
        confusion.make(tmp_path / name, config, [workdir])
    text = (tmp_path / 'a.html').read_text()
    assert text == (tmp_path / 'b.html').read_text() and '10 classes; ' in text and 'of 360 images wrong' in text
    confusion.make(tmp_path / 'c.html', config, [workdir], count=3)
    assert 'the 3 of 10 classes with the most errors' in (tmp_path / 'c.html').read_text()
    with pytest.raises(UserError, match='--count must be at least 2, not 1'):
        confusion.make(tmp_path / 'd.png', config, [workdir], count=1)


def test_as_text():
    rows = [
        row(0, (0, 1), 0),
        row(1, (0, 1), 1)._replace(name='cat.png', probabilities=(0.75, 0.25)),
        row(1, (1, 0), 0),
    ]
    assert list(report.worst(rows, ('dog', 'a cat'))) == [
        'confusion matrix (a row for each true class, a column for each predicted one):',
        '         dog  a cat',
        '  dog      1      0',
        '  a cat    1      1',
        'worst pictures:',
        '  cat.png: dog 0.75, and it is a cat',
    ]
    assert list(report.worst(rows, (*'ab', *range(20))))[:4] == [
        'worst classes (top-1 error):',
        '   50.00%  b (2 images)',
        '    0.00%  a (1 image)',
        'most confused (true, predicted):',
    ]

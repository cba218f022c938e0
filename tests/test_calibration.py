"""The expected calibration error (Guo et al. 2017) against scikit-learn's calibration curve and cases by hand."""

import math

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

import evaluation
from evaluation import apply, report, results
from figures import inputs, reliability, style


def rows_of(confidence, right):
    """Rows of two classes, whose predicted class has these probabilities."""
    pairs = enumerate(zip(confidence, right, strict=True))
    return [results.Row(k, '', 0, 0 if is_right else 1, 1.0, (0,), (p,)) for k, (p, is_right) in pairs]


def scikit_learns(confidence, right):
    """The accuracy and the mean confidence of each bin by scikit-learn, and the calibration error from them."""
    accuracy, mean = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(confidence, 15, (0, 1))[0]
    counts = counts[counts > 0]
    return accuracy, mean, counts, np.sum(counts * np.abs(accuracy - mean)) / len(confidence)


def test_it_is_that_of_scikit_learns_bins():
    rng = np.random.default_rng(0)
    for shape in ((5, 1), (1, 5), (0.3, 0.3)):  # confident, not, both; some bins may be empty
        confidence = rng.beta(*shape, 500)
        right = rng.random(500) < confidence**2
        accuracy, mean, counts, error = scikit_learns(confidence, right)
        found = results.calibration(rows_of(confidence, right))
        assert found['ece'] == pytest.approx(100 * error)
        assert found['confidence'] == pytest.approx(100 * confidence.mean())
        for key, values in (('accuracy', 100 * accuracy), ('confidence', 100 * mean), ('num_examples', counts)):
            assert [each[key] for each in found['reliability']] == pytest.approx(values)


@pytest.mark.parametrize(
    'confidence, right, error',
    [
        ([0.8] * 10, [True] * 8 + [False] * 2, 0),  # 80% sure, and right 8 times in 10
        ([1.0] * 4, [True, False] * 2, 50),  # sure, and wrong half of the time
        ([0.3] * 2, [True] * 2, 70),  # too modest
        ([0.9] * 3 + [0.6], [True] * 3 + [False], (3 * 10 + 60) / 4),  # two bins
        ([0.65, 0.61], [True, False], 100 * abs(1 - 1.26) / 2),  # one bin, where errors cancel
        ([2 / 15, 1 / 15], [True, False], 100 * (13 / 15 + 1 / 15) / 2),  # a bin includes its upper end
    ],
)
def test_by_hand(confidence, right, error):
    assert results.calibration(rows_of(confidence, right))['ece'] == pytest.approx(error)


def test_of_what_can_be_read_and_counts():
    rows = rows_of([0.9, 0.8, 0.7], [True, False, True])
    rows[1] = rows[1]._replace(counts=False)
    found = results.summary([*rows, results.row(3, '', 0, None)])
    assert found['ece'] == pytest.approx(20) and found['confidence'] == pytest.approx(80)
    ties = [results.row(0, '', 0, np.log([0.5, 0.5])), results.row(1, '', 1, np.log([0.5, 0.5]))]
    assert results.calibration(ties)['ece'] == pytest.approx(50)  # both are wrong, as in the error
    found = results.summary([*rows, results.row(3, '', 0, np.full(2, math.nan))])
    assert found['ece'] is found['confidence'] is None and found['reliability'] == []
    assert report.calibration(found) == 'expected calibration error: unknown, some outputs are not numbers'
    line = 'expected calibration error: 3.14% (mean confidence 99.50%, 15 bins)'
    assert report.calibration({'ece': 3.14159, 'confidence': 99.5}) == line


def test_the_diagram_shows_the_bins():
    found = results.summary(rows_of([0.9] * 3 + [0.6], [True, True, False, True]))
    with style.look():
        figure = reliability.draw([found] * 2, ['one', 'other'], 'title')
    shares, _, accuracies, _ = figure.axes
    assert [bar.get_height() for bar in shares.patches] == pytest.approx([25, 75])
    assert [bar.get_x() for bar in shares.patches] == pytest.approx([800 / 15, 1300 / 15])
    bars = [(bar.get_y(), bar.get_height()) for bar in accuracies.patches]
    np.testing.assert_allclose(bars, [(0, 100), (0, 200 / 3), (100, -40), (200 / 3, 90 - 200 / 3)])
    assert accuracies.texts[0].get_text() == f'ECE {(40 + 3 * (90 - 200 / 3)) / 4:.2f}%'


@pytest.mark.slow
def test_of_a_network(digits_run, tmp_path):
    config, workdir = digits_run
    network, source = inputs.open_one(config, [workdir]), inputs.open_data(config).source
    logits, _ = apply.outputs(network.member, source, lambda model, v, images: model.apply(v, images))
    logits = logits.astype(np.float64)
    probabilities = np.minimum(1, np.exp(logits - np.logaddexp.reduce(logits, 1, keepdims=True)))
    result, _, _ = evaluation.evaluate(config, network.checkpoint)
    error = scikit_learns(probabilities.max(1), probabilities.argmax(1) == source.labels)[-1]
    assert result['ece'] == pytest.approx(100 * error, rel=1e-4)
    for name in ('a.html', 'b.html'):
        reliability.make(tmp_path / name, config, [workdir, workdir])
    text = (tmp_path / 'a.html').read_text()
    assert text == (tmp_path / 'b.html').read_text() and '360 images, ' in text

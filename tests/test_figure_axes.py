"""The labels of axes and of lines agree with what is drawn."""

import json

import numpy as np
import pytest
from conftest import epoch_row

from figures import compare, degradation, depth, occlusion, style
from training import log


def test_the_axes_of_depth_are_of_the_numbers_that_they_name():
    every = depth.networks()
    with style.look():
        made = depth.draw(every)
    panels = [panel for panel in made.axes if panel.get_xlabel()]
    assert [panel.get_xlabel() for panel in panels] == ['parameters', 'multiply-adds'] * 2
    for number, panel in enumerate(panels):
        row = panels[number // 2 * 2]
        measure, _, unit = row.get_ylabel().partition(', error, ')
        assert unit == '%'
        key = panel.get_xlabel().replace('-', '_')
        expected = sorted((getattr(one, key), one.error) for one in every if one.measure == measure)
        lines = [line for line in panel.lines if len(line.get_xdata()) == 1]
        assert sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in lines) == expected
        assert len(expected) == (36, 9)[number // 2]


@pytest.fixture
def saved(monkeypatch):
    """The figures that are saved, in place of their files."""
    figures = []
    monkeypatch.setattr(style, 'save', lambda made, path, **_: figures.append(made))
    return figures


def test_dashed_is_training_and_bold_is_test(saved, tmp_path):
    (tmp_path / 'config.json').write_text(json.dumps({'architecture': 'plain20', 'dataset': 'cifar10'}))
    lines = log.RunLog(tmp_path)
    for epoch, (train, test) in enumerate([(50.0, 60.0), (20.0, 40.0)], 1):
        lines.write('epoch', 100 * epoch, {'total': 1.0}, **epoch_row(epoch, train, test))
    lines.close()
    degradation.make('unwritten.png', [str(tmp_path)])
    (panel,) = saved[0].axes
    drawn = {line.get_linestyle(): line for line in panel.lines}
    assert drawn['--'].get_xydata().tolist() == [[100, 50], [200, 20]]
    assert drawn['-'].get_xydata().tolist() == [[100, 60], [200, 40]]
    assert drawn['-'].get_linewidth() > drawn['--'].get_linewidth()
    assert (panel.get_xlabel(), panel.get_ylabel()) == ('iterations', 'error, %')
    legend = panel.get_legend()
    assert legend.get_title().get_text() == 'test (bold), training (dashed) error at the end'
    assert legend.get_texts()[0].get_text() == 'plain20: 40.00, 20.00 (2 epochs so far)'


@pytest.mark.parametrize('side, stride', [(28, 4), (32, 5), (224, 8), (10, 1)])
def test_a_cell_of_an_occlusion_map_is_drawn_where_its_square_stood(side, stride):
    # Cell c is drawn over the pixels from c * stride to below (c + 1) * stride.
    cells = np.arange(stride * -(-side // stride)).reshape(-1, stride)
    assert occlusion.middles(side, stride).tolist() == cells[:, stride // 2].tolist()


def test_bars_are_the_standard_deviations_of_samples(saved):
    """Of 97, 98 and 99 per cent it is 1; that of a population would be 0.82."""
    measured = compare.Measured('lenet5', (97.0, 98.0, 99.0), 61_706, 246_824, True)
    compare._draw('unwritten.png', [measured, measured._replace(name='one seed', accuracies=(98.0,))], 'title')
    left = saved[0].axes[0]
    (bars,) = left.containers
    ends = sorted(tuple(bar[:, 0]) for bar in bars.lines[2][0].get_segments())
    np.testing.assert_allclose(ends, [(97, 99), (98, 98)])
    assert left.get_title() == 'accuracy, %'

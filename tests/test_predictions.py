"""`visualize.py predictions` and `predict.py --grid`: bars are probabilities; half the images right, half wrong."""

import jax
import numpy as np
import pytest
from matplotlib import colors
from PIL import Image

from evaluation import apply
from figures import inputs, predictions, style
from input_pipeline.pixels import Pixels


def logits(model, variables, images):
    return jax.nn.softmax(model.apply(variables, images))


@pytest.fixture
def checkpoint(digits_run):
    config, workdir = digits_run
    return inputs.open_one(config, [workdir]), inputs.open_data(config)


def test_right_and_wrong_images_are_what_they_are_called(checkpoint):
    entry, data = checkpoint
    right, wrong = predictions.sample(entry.member, data.source, 4, 3)
    probabilities, _ = apply.outputs(entry.member, data.source, logits)
    assert len(right) == 4 and len(wrong) == 3
    for rows, best in ((right, True), (wrong, False)):
        for row in rows:
            found = probabilities[row.index]
            assert (found.argmax() == data.source.labels[row.index]) == best
            np.testing.assert_allclose(row.probabilities, np.sort(found)[:-6:-1], rtol=1e-4, atol=1e-7)
            assert list(row.classes) == np.argsort(-found, kind='stable')[:5].tolist()


def test_the_seed_chooses_and_what_there_is_is_taken(checkpoint):
    entry, data = checkpoint
    first = predictions.sample(entry.member, data.source, 4, 0)[0]
    other = entry.member.config.copy_and_resolve_references()
    other.seed += 1
    seeded = entry.member._replace(pixels=Pixels(other))
    assert first == predictions.sample(entry.member, data.source, 4, 0)[0]
    assert first != predictions.sample(seeded, data.source, 4, 0)[0]
    right, wrong = predictions.sample(entry.member, data.source, 10_000, 10_000)
    assert len({row.index for row in right + wrong}) == len(right) + len(wrong) == 360


def test_the_right_bar_has_a_different_color_even_if_names_are_equal(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(style, 'save', lambda figure, path, **options: made.append(figure))
    best = [{'class': k, 'name': 'crane', 'probability': p} for k, p in ((134, 0.6), (517, 0.3))]
    entry = {'best': best, 'label': {'class': 517, 'name': 'crane'}}
    predictions.draw([entry], [np.zeros((4, 4, 3), np.uint8)], [tmp_path / 'x.png'], 'title')
    bars = made[0].axes[1].patches  # the best at the top
    assert [bar.get_width() for bar in bars] == [0.3, 0.6] and bars[0].get_y() < bars[1].get_y()
    assert [colors.to_hex(bar.get_facecolor()).upper() for bar in bars] == [style.ORANGE, style.SKY]
    assert made[0].axes[0].get_title() == 'crane'


def test_the_same_checkpoint_gives_the_same_file(digits_run, tmp_path):
    config, workdir = digits_run
    for name in ('a.svg', 'b.svg'):
        predictions.make(tmp_path / name, config, [workdir], count=3)
    assert (tmp_path / 'a.svg').read_bytes() == (tmp_path / 'b.svg').read_bytes()


def test_image_files_by_either_command(digits_run, script, tmp_path):
    config, workdir = digits_run
    (tmp_path / 'in').mkdir()
    for name in ('a.png', 'b.png'):
        Image.new('L', (40, 30), 200).save(tmp_path / 'in' / name)
    predictions.make(tmp_path / 'v.html', config, [workdir], images=[tmp_path / 'in'])
    assert '<title>2 images\nlenet5, digits, step 135</title>' in (tmp_path / 'v.html').read_text()
    done = script('predict.py', '--checkpoint', workdir, tmp_path / 'in', '--grid', tmp_path / 'p.png')
    assert done.returncode == 0 and done.stdout.count('a.png') == 1, done.stderr
    with Image.open(tmp_path / 'p.png') as picture:
        assert picture.width > 500

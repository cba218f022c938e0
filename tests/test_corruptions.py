"""ImageNet-C: the mean corruption error against the paper's numbers and by another route, and a tiny ImageNet-C."""

import json
import shutil

import jax
import numpy as np
import pytest
from conftest import digits
from PIL import Image

import architectures
from configs import imagenet
from evaluation import checkpoint, corruptions, label_sets, scoring
from input_pipeline import classes, datasets
from input_pipeline.pixels import Pixels
from papers import imagenet_c
from runtime.errors import UserError
from training import checkpoints
from training.run import build_model

RNG = np.random.default_rng(0)
ALEXNET = np.array([float(error) for error in imagenet_c.ALEXNET.values()])
# Table 1, without a digit after the point, and section 5.2.
RESNET50 = (80, 82, 83, 75, 89, 78, 80, 78, 75, 66, 57, 71, 85, 77, 77)


def parts_of(errors):
    """The errors of each part, from an array [15, 5]."""
    return dict(zip(corruptions.PARTS, errors.ravel(), strict=True))


def means(errors, clean_error=None):
    table = corruptions.errors_of(errors, clean_error)
    return corruptions.mean_of(table, 'ce'), corruptions.mean_of(table, 'relative_ce')


def test_alexnets_errors_are_counts_of_its_images():
    assert len(ALEXNET) == 15 and len(corruptions.PARTS) == 75
    wrong = ALEXNET / 100 * imagenet_c.IMAGES * 5
    np.testing.assert_allclose(wrong, np.round(wrong), atol=1e-6)


def test_alexnet_itself_has_100_percent():
    spread = np.array([-20, -10, 0, 5, 25])  # over the severities
    errors = parts_of(ALEXNET[:, None] + spread)
    table = corruptions.errors_of(errors, float(imagenet_c.ALEXNET_CLEAN))
    assert [each.ce for each in table.values()] == pytest.approx([100] * 15)
    assert means(errors, float(imagenet_c.ALEXNET_CLEAN)) == pytest.approx((100, 100))


def test_the_papers_resnet_50():
    errors = np.repeat(np.array(RESNET50)[:, None] / 100 * ALEXNET[:, None], 5, 1)
    mce, relative = means(parts_of(errors), 23.87)
    assert mce == pytest.approx(76.7, abs=0.5) and relative == pytest.approx(105.0, abs=0.75)


def test_by_another_route():
    errors, clean = RNG.uniform(0, 100, (15, 5)), 30.0
    over = errors.sum(1) / (5 * ALEXNET)
    rise = (errors - clean).sum(1) / (5 * (ALEXNET - 43.5))
    assert means(parts_of(errors), clean) == pytest.approx((100 * over.mean(), 100 * rise.mean()))
    assert means(parts_of(errors))[1] is None


def test_what_is_missing_is_named_and_has_no_mean():
    parts = [part for part in corruptions.PARTS if part not in ('fog/3', 'fog/5') and not part.startswith('snow/')]
    assert corruptions.missing(parts) == 'snow, fog/3, fog/5' and corruptions.missing(corruptions.PARTS) == ''
    table = corruptions.errors_of(dict.fromkeys(parts, 50.0), 25.0)
    assert table['fog'] == ((50, 50, None, 50, None), None, None, None) and table['snow'].ce is None
    assert table['frost'].ce == pytest.approx(5000 / 82.6572)
    assert corruptions.mean_of(table, 'ce') is corruptions.mean_of(table, 'relative_ce') is None


@pytest.mark.parametrize('side', [224, 227])
def test_a_crop_is_seen_whole(side):
    """By a network of its size as it is, by another one resized: the middle of a short side of 256 would be less."""
    config = imagenet.get_config()
    config.dataset, config.image_size, config.test_crop.filter = 'imagenet_c', side, 'bicubic'
    protocol = checkpoint._protocol(config, 'single', '', False)
    assert protocol.name == f'single_{side}_of_{side}'
    assert checkpoint._protocol(config, 'single_224', '', False).name == 'single_224'
    member = scoring.Member(None, None, config, protocol, Pixels(config))
    image = RNG.integers(0, 256, (224, 224, 3), np.uint8)
    ((_, item),) = scoring.Scorer([member], 1, 4, jax.device_put).items(image)
    expected = np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BICUBIC))
    np.testing.assert_array_equal(item.pixels, expected)


def test_sketches_are_of_all_classes(tmp_path):
    class Source:
        name, class_names = 'sketch', classes.WNIDS

    chosen = label_sets.create('imagenet_sketch', Source, 1000, classes.WNIDS)
    assert chosen.name == 'ImageNet-Sketch' and chosen.label(7) == 7 and chosen.classes is None
    Source.class_names = classes.WNIDS[:-1]
    with pytest.raises(UserError, match='sketch is not ImageNet-Sketch, .*: there are 1,000 there and 999 here'):
        label_sets.create('imagenet_sketch', Source, 1000, classes.WNIDS)
    with pytest.raises(UserError, match="no labels 'imagenet_sketches', did you mean imagenet_sketch"):
        label_sets.create('imagenet_sketches', Source, 1000, classes.WNIDS)


def test_splits(tmp_path):
    for split, says in (
        (
            'val',
            "no split 'val'.*CORRUPTION/SEVERITY, .*split=fog/3 .*split=test.: gaussian_noise, ",
        ),
        ('fgo/3', "no split 'fgo/3', did you mean fog"),
        ('fog/6', "no split 'fog/6'"),
        ('fog/3', 'no folder .*/fog/3: pass --config.data_dir=FOLDER'),
    ):
        with pytest.raises(UserError, match=says):
            datasets.open_source('imagenet_c', split, str(tmp_path))
    with pytest.raises(UserError, match='has no folder gaussian_noise/1, nor any other'):
        corruptions.find(str(tmp_path))
    for folder in ('fog/3', 'weather/frost/1'):  # in one folder, or in one for each archive
        (tmp_path / folder / 'n01440764').mkdir(parents=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / folder / 'n01440764' / 'a.png')
        assert len(datasets.open_source('imagenet_c', '/'.join(folder.split('/')[-2:]), str(tmp_path))) == 1
    assert corruptions.find(str(tmp_path)) == ['frost/1', 'fog/3']


# A tiny ImageNet-C

WNIDS = classes.WNIDS[:3]


@pytest.fixture(scope='module')
def tiny(tmp_path_factory):
    """(folder of random weights, folder of an ImageNet-C of nine gray patterns each, the network's errors)."""
    network, data = tmp_path_factory.mktemp('network'), tmp_path_factory.mktemp('data') / 'ImageNet-C'
    config = digits(num_classes=3, dataset='imagenet', test_split='validation', test_batch_size=9)
    model = build_model(config)
    variables = jax.tree.map(lambda x: 1.5 * x, architectures.initialize(model, 0, (32, 32, 1)))
    with checkpoints.Checkpoints(network / checkpoints.FOLDER) as kept:
        kept.save_model(variables, checkpoints.describe(config, WNIDS))
    (network / 'config.json').write_text(config.to_json_best_effort())
    images = RNG.integers(0, 256, (75, 3, 3, 4, 4), np.uint8).repeat(8, -1).repeat(8, -2)  # on noise it says one class
    for part, by_class in zip(corruptions.PARTS, images, strict=True):
        for wnid, of_class in zip(WNIDS, by_class, strict=True):
            (data / part / wnid).mkdir(parents=True)
            for number, image in enumerate(of_class):
                Image.fromarray(image).save(data / part / wnid / f'ILSVRC2012_val_{number:08}.png')
    low, high = config.pixel_range
    pixels = low + (high - low) * images.reshape(-1, 32, 32, 1).astype(np.float32) / 255
    predicted = np.asarray(model.apply(variables, pixels)).argmax(-1).reshape(75, 3, 3)
    return network, data, 100 * np.mean(predicted != np.arange(3)[:, None], (1, 2)).reshape(15, 5)


@pytest.mark.slow
def test_all_of_it_with_one_command(tiny, script, tmp_path):
    network, data, errors = tiny
    assert len(np.unique(errors)) > 3
    command = ('evaluate.py', '--checkpoint', network, '--config.dataset=imagenet_c', f'--config.data_dir={data}')
    done = script(*command, '--clean_error=60', '--output', tmp_path / 'result.json')
    assert done.returncode == 0, done.stderr
    result = json.loads((tmp_path / 'result.json').read_text())
    mce = np.mean(errors.mean(1) / ALEXNET) * 100
    assert result['mce'] == pytest.approx(mce) and result['missing'] == '' and result['num_examples'] == 75 * 9
    assert result['relative_mce'] == pytest.approx(np.mean((errors.mean(1) - 60) / (ALEXNET - 43.5)) * 100)
    assert result['protocol'] == 'single_32_of_32' and result['compiled'] == 1
    found = [result['corruptions'][name]['errors'] for name in imagenet_c.ALEXNET]
    np.testing.assert_allclose(found, errors)
    assert result['parts']['fog/3']['top1_error'] == result['corruptions']['fog']['errors'][2]
    lines = done.stdout.splitlines()
    assert lines[0] == 'lenet5 on imagenet_c, 75 of 75 corruptions x severities, 675 images'
    fog = [f'{value:.2f}' for value in (*errors[9], errors[9].mean(), ALEXNET[9], 100 * errors[9].mean() / ALEXNET[9])]
    assert ['fog', *fog] in [line.split() for line in lines] and max(map(len, lines[3:19])) <= 79
    assert f'mean corruption error (mCE): {mce:.2f}%' in lines
    assert "AlexNet's errors: Hendrycks and Dietterich 2019, 50,000 images of 1,000 classes each; here 9" in lines
    assert not list(network.glob('*.partial'))
    one = script(*command, '--config.test_split=fog/3', '--worst')
    assert f'top-1 error: {errors[9, 2]:.2f}%' in one.stdout and 'worst pictures' in one.stdout, one.stderr
    assert 'published: the papers tested on other images' in one.stdout


@pytest.mark.slow
def test_part_of_it(tiny, script, tmp_path):
    network, whole, errors = tiny
    data = tmp_path / 'some'
    for part in ('fog/1', 'fog/2', *(f'frost/{severity}' for severity in imagenet_c.SEVERITIES)):
        shutil.copytree(whole / part, data / part)
    command = ('evaluate.py', '--checkpoint', network, '--config.dataset=imagenet_c', f'--config.data_dir={data}')
    broken = data / 'fog/1' / WNIDS[0] / 'ILSVRC2012_val_00000000.png'
    image = broken.read_bytes()
    broken.write_bytes(b'not an image')
    done = script(*command)  # frost, which comes first, is finished
    assert done.returncode == 2 and str(broken) in done.stderr and 'Traceback' not in done.stderr
    broken.write_bytes(image)
    assert 'pass --resume to continue it' in script(*command).stderr
    done = script(*command, '--resume', '--output', tmp_path / 'result.json')
    assert done.returncode == 0, done.stderr
    names = [name for name in imagenet_c.ALEXNET if name not in ('fog', 'frost')]
    absent = ', '.join([*names[:8], 'fog/3', 'fog/4', 'fog/5', *names[8:]])
    assert f'note: no mean corruption error (mCE), because these are missing: {absent}' in done.stderr
    assert f'no mean corruption error (mCE): missing {absent}' in done.stdout.splitlines()
    result = json.loads((tmp_path / 'result.json').read_text())
    assert result['mce'] is result['relative_mce'] is None and result['missing'] == absent
    assert result['evaluated'] == 2 * 9 and result['num_examples'] == 7 * 9
    assert result['corruptions']['frost']['ce'] == pytest.approx(100 * errors[8].mean() / ALEXNET[8])
    row = next(line.split() for line in done.stdout.splitlines() if line.startswith('fog '))
    assert row[3:] == ['-', '-', '-', '-', '81.93', '-']
    for flags, says in (
        (('--worst',), 'ImageNet-C is 75 tests: leave --worst out, or name one of them'),
        (('--config.test_split=fog/1', '--clean_error=60'), '--clean_error is for all of ImageNet-C'),
        (('--clean_error=600',), 'clean_error'),
        (('--config.test_crop.kind=center',), 'has no effect with --protocol single_32_of_32, which'),
        (('--config.data_dir=nowhere',), 'nowhere has no folder gaussian_noise/1'),
        (('--config.test_split=fog',), "ImageNet-C has no split 'fog'"),
    ):
        done = script(*command, *flags)
        assert done.returncode == 2 and says in done.stderr and done.stderr.count('\n') <= 2, done.stderr

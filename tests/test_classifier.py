"""The project as a library: a trained network in three lines, from any folder, and from a wheel."""

import io
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
from conftest import PYTHON, ROOT, one_device_environment
from PIL import Image

import architectures
import evaluation
import imagenet_decade
import weights
from evaluation import apply, prediction
from figures import inputs
from runtime.errors import UserError


@pytest.fixture(scope='module')
def digit_files(digits_run, tmp_path_factory):
    """(paths of eight test digits, their images uint8 [8, H, W, 1])."""
    source, folder = inputs.open_data(digits_run[0]).source, tmp_path_factory.mktemp('digits')
    paths = [folder / f'{number}.png' for number in range(8)]
    for number, path in enumerate(paths):
        Image.fromarray(source[number].image[..., 0]).save(path)
    return paths, np.stack([source[number].image for number in range(8)])


@pytest.fixture(scope='module')
def classifier(digits_run):
    return imagenet_decade.load(digits_run[1])


def test_top5_is_what_predict_says(classifier, digits_run, digit_files):
    member = inputs.open_one(digits_run[0], [digits_run[1]]).member
    expected = prediction.predict(member, prediction.Files(list(map(str, digit_files[0]))))
    found = classifier.top5(digit_files[0])
    assert len(found) == 8 and all(len(row) == 5 for row in found)
    for row, entry in zip(found, expected, strict=True):
        assert [name for name, _ in row] == [best['name'] for best in entry['best']]
        np.testing.assert_allclose([p for _, p in row], [best['probability'] for best in entry['best']], atol=1e-5)


def test_files_folders_and_arrays_are_the_same_pictures(classifier, digit_files):
    paths, images = digit_files
    expected = classifier.logits(paths)
    assert expected.shape == (8, 10) and expected.dtype == np.float32
    for same in (
        paths[0].parent,
        str(paths[0].parent),
        images,
        list(images),
        tuple(map(str, paths)),
        np.repeat(images, 3, -1),
        iter(images[..., 0]),
        [*paths[:2], *images[2:]],
    ):
        np.testing.assert_allclose(classifier.logits(same), expected, atol=1e-4)
    for one in (
        paths[3],
        str(paths[3]),
        images[3],
        images[3, ..., 0],
        images[3:4],
        Image.open(paths[3]),
        [Image.open(paths[3])],
        Image.open(paths[3]).convert('RGBA'),
    ):
        np.testing.assert_allclose(classifier.logits(one), expected[3:4], atol=1e-4)


def test_its_parts_fit_together(classifier, digit_files):
    images = classifier.preprocess(digit_files[0])
    assert images.shape == (8, 32, 32, 1) and images.dtype == np.float32
    np.testing.assert_allclose(
        jax.jit(classifier.model.apply)(classifier.variables, images), classifier.logits(digit_files[0]), atol=1e-4
    )
    assert classifier.class_names == tuple('0123456789') and classifier.config.architecture == 'lenet5'
    assert repr(classifier).startswith('Classifier(lenet5, 10 classes, ')


def test_features_are_those_of_the_figure(classifier, digits_run, digit_files):
    member, source = inputs.open_one(digits_run[0], [digits_run[1]]).member, inputs.open_data(digits_run[0]).source
    expected, _ = apply.outputs(member, source, architectures.last_hidden)
    np.testing.assert_allclose(classifier.features(digit_files[0]), expected[:8], atol=1e-4)
    np.testing.assert_allclose(classifier.features(digit_files[0], 'fc2'), expected[:8], atol=1e-4)
    assert classifier.features(digit_files[0], 'pool2').shape == (8, 5, 5, 16)
    with pytest.raises(UserError, match=r"no layer 'pool3', did you mean pool\d\? There are: .*conv1.*fc3"):
        classifier.features(digit_files[0], 'pool3')


def test_a_program_is_compiled_once(classifier, digit_files, monkeypatch):
    classifier.logits(digit_files[0])
    monkeypatch.setattr(apply, 'program', lambda *_: pytest.fail('compiled again'))
    classifier.logits(digit_files[0])


@pytest.mark.parametrize(
    'wrong, message',
    [
        (np.zeros((8, 8, 3), np.float32), 'picture 0 is float32 of the shape .*: pass the path of a file, or uint8'),
        ([np.zeros((8, 8), np.uint8), np.zeros((8, 8, 2), np.uint8)], r'picture 1 is uint8 of the shape \(8, 8, 2\)'),
        (np.zeros((0, 8, 3), np.uint8), r'picture 0 is uint8 of the shape \(0, 8, 3\)'),
        (np.zeros((2, 2, 8, 8, 3), np.uint8), 'picture 0 is uint8 of the shape'),
        (None, 'pictures are of the type NoneType'),
        ([b'picture'], 'picture 0 is of the type bytes: pass a path, an array or an image'),
        ([], 'there are no pictures'),
        ('missing.jpg', 'missing.jpg does not exist'),
        (__file__, 'test_classifier.py cannot be decoded'),
    ],
)
def test_what_is_no_picture_is_said(classifier, wrong, message):
    with pytest.raises(UserError, match=message):
        classifier.logits(wrong)


def test_what_is_no_checkpoint_is_said(tmp_path):
    for load in (evaluation.load, imagenet_decade.load):
        with pytest.raises(UserError, match='missing does not exist: pass the folder of a run'):
            load(tmp_path / 'missing')
    with pytest.raises(UserError, match='has no config.json'):
        evaluation.load(tmp_path)


def test_a_release_is_loaded_by_its_name(monkeypatch):
    monkeypatch.setattr(weights, 'converted', {'hf://some/digits': 'its folder'}.get)
    monkeypatch.setattr(evaluation, 'load', lambda path, which: (path, which))
    assert imagenet_decade.load('hf://some/digits', 'latest') == ('its folder', 'latest')
    assert imagenet_decade.load(Path('runs', 'mine')) == ('runs/mine', 'best')


@pytest.mark.slow
def test_a_figure_is_drawn_as_by_the_command(digits_run, script, tmp_path):
    drawn = imagenet_decade.draw('filters', digits_run[1], width=300, columns=2)
    flags = '--checkpoint', digits_run[1], '--columns', 2, '--out', tmp_path / 'a.png'
    assert script('visualize.py', 'filters', *flags).returncode == 0
    with Image.open(tmp_path / 'a.png') as expected, Image.open(io.BytesIO(drawn.data)) as picture:
        expected.thumbnail((300, 3000), Image.Resampling.LANCZOS)
        assert picture.size == expected.size and picture.width == 300
        assert np.abs(np.asarray(picture.convert('RGB'), int) - np.asarray(expected.convert('RGB'), int)).mean() < 2


@pytest.mark.slow
def test_what_is_no_figure_is_said(digits_run, tmp_path):
    with pytest.raises(UserError, match='no figure .filter., did you mean filters?'):
        imagenet_decade.draw('filter', digits_run[1])
    with pytest.raises(UserError, match='filters has no option .column., did you mean columns?'):
        imagenet_decade.draw('filters', digits_run[1], column=3)
    with pytest.raises(UserError, match='filters draws kernels .*: pass its checkpoint'):
        imagenet_decade.draw('filters')
    with pytest.raises(UserError, match='missing does not exist'):
        imagenet_decade.draw('filters', tmp_path / 'missing')


USE = """
import sys
{path}
import imagenet_decade
classifier = imagenet_decade.load({workdir!r})
print(classifier.top5({picture!r})[0][0][0])
import architectures
print(architectures.create('lenet5').num_classes)
"""


def environment(**changes):
    """That of a user's process, without what this process has on its path."""
    return {k: v for k, v in one_device_environment().items() if k != 'PYTHONPATH'} | changes


@pytest.mark.slow
def test_three_lines_in_another_folder(classifier, digits_run, digit_files, tmp_path):
    path = f'sys.path.insert(0, {str(ROOT)!r})'
    text = USE.format(path=path, workdir=str(digits_run[1]), picture=str(digit_files[0][2]))
    command = [*PYTHON, '-c', text, 'a', '--strange=flag']  # as a notebook's kernel has arguments of its own
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stderr) == (0, '')
    assert done.stdout.split() == [classifier.top5(digit_files[0][2])[0][0][0], '10']
    assert os.listdir(tmp_path) == []


def test_a_module_of_the_users_with_a_name_of_ours_is_said(tmp_path):
    (tmp_path / 'training.py').write_text('')
    text = f'import sys; sys.path.append({str(ROOT)!r}); import imagenet_decade'
    command = [sys.executable, '-c', text]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert f"needs its own package 'training', and {tmp_path}/training.py has that name: rename it" in done.stderr


def test_the_path_of_the_project_is_last(tmp_path):
    text = f'import sys; sys.path.insert(0, {str(ROOT)!r}); import imagenet_decade; print(sys.path)'
    command = [sys.executable, '-c', text]
    done = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and done.stdout.count(f"'{ROOT}'") == 1


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    """The wheel that `pip install .` makes of the files under version control; skips the test without setuptools."""
    folder = tmp_path_factory.mktemp('wheel')
    listed = subprocess.run(['git', 'ls-files', '-z'], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip('no git checkout: its files cannot be told from others')
    for name in filter(None, listed.stdout.split('\0')):
        if (ROOT / name).is_file() and not name.startswith(('docs/', 'results/')):
            (folder / 'source' / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / 'source' / name)
    command = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--quiet', '-w', str(folder), str(folder / 'source')]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    if 'setuptools' in done.stderr and ('No matching distribution' in done.stderr or 'Connection' in done.stderr):
        pytest.skip('setuptools cannot be downloaded')
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob('*.whl')
    return path


@pytest.mark.slow
def test_a_wheel_has_one_package_with_what_belongs(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = [Path(name) for name in archive.namelist()]
    assert {file.parts[0] for file in files if not file.parts[0].endswith('.dist-info')} == {'imagenet_decade'}
    inside = {'/'.join(file.parts[1:]) for file in files if file.parts[0] == 'imagenet_decade'}
    rooms = {path.parent for path in ROOT.glob('*/__init__.py')} - {ROOT / 'imagenet_decade'}
    needed = {path for room in rooms for path in room.iterdir() if path.is_file()}
    expected = {str(path.relative_to(ROOT)) for path in needed} | {f'scripts/{p.name}' for p in ROOT.glob('*.py')}
    assert inside == expected | {'__init__.py'}


@pytest.mark.slow
def test_a_wheel_in_a_clean_environment(wheel, tmp_path, digit_files):
    venv.create(tmp_path / 'env', with_pip=True)
    binaries = tmp_path / 'env' / 'bin'
    (site,) = (tmp_path / 'env').glob('lib/python*/site-packages')
    installed = [binaries / 'python', '-m', 'pip', 'install', '--quiet', '--no-deps', '--no-index', wheel]
    subprocess.run(installed, check=True, capture_output=True, timeout=240)
    (site / 'requirements.pth').write_text(str(Path(np.__file__).parents[1]))  # what it depends on, from here
    folder = tmp_path / 'elsewhere'
    folder.mkdir()

    def run(command, *arguments):
        words = [binaries / command, *map(str, arguments)]
        done = subprocess.run(words, cwd=folder, env=environment(), capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert 'lenet5_digits' in run('decade-configs') and 'C5' not in run('decade-architectures', 'lenet5')
    run('decade-train', '--config', 'lenet5_digits', '--config.stop_at_step=20')
    picture = digit_files[0][2]
    answers = json.loads(run('decade-predict', '--checkpoint', 'runs/lenet5_digits', '--json', picture))
    text = USE.format(path='', workdir='runs/lenet5_digits', picture=str(picture))
    assert run('python', '-c', text).split() == [answers[0]['best'][0]['name'], '10']
    run('decade-visualize', 'timeline', '--out', 'timeline.png')
    assert {path.name for path in folder.iterdir()} == {'runs', 'timeline.png'}
    for command in ('evaluate', 'convert', 'benchmark', 'data'):
        assert f'{command}.py' in run(f'decade-{command}', '--help')

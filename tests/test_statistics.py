import functools
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from input_pipeline import crops, datasets, example, geometry, show, sources, statistics
from runtime.errors import UserError


def photographs(count, height, width, seed=0):
    """Smooth images whose channels are correlated and of unequal spread, uint8 [count, height, width, 3]."""
    rng = np.random.default_rng(seed)
    mixing = np.array([[30, 8, 3], [30, -2, -9], [28, -9, 5]], np.float64)
    small = rng.normal(size=(count, 4, 4, 3)) @ mixing.T + (125, 117, 104)
    small = np.clip(small, 0, 255).astype(np.uint8)
    return np.stack([geometry.resize(image, height, width, 'bicubic') for image in small])


def write_folder(folder, images, classes=('cat', 'dog')):
    for number, image in enumerate(images):
        path = folder / classes[number % len(classes)] / f'{number:03}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    return sources.FolderSource(folder)


def assert_measured(found, images):
    """Agreement with NumPy over all pixels in double precision."""
    pixels = images.astype(np.float64).reshape(-1, images.shape[-1])
    np.testing.assert_allclose(found['mean_image'], images.mean(0), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found['mean'], pixels.mean(0), rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(found['std'], pixels.std(0), rtol=1e-5, atol=1e-3)
    covariance = np.cov(pixels.T, bias=True).reshape(found['vectors'].shape)
    vectors, deviations = found['vectors'].astype(np.float64), found['deviations'].astype(np.float64)
    np.testing.assert_allclose(deviations**2, np.linalg.eigvalsh(covariance)[::-1], rtol=1e-4, atol=1e-2)
    assert (np.diff(deviations) <= 0).all()  # the largest first
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(len(vectors)), atol=1e-5)
    np.testing.assert_allclose(vectors * deviations**2 @ vectors.T, covariance, rtol=1e-3, atol=0.1)
    assert found['num_examples'] == len(images)
    assert all(found[key].dtype == np.float32 for key in ('mean_image', 'mean', 'std', 'vectors', 'deviations'))


@pytest.mark.parametrize('count', [3, 32, 37])  # not only multiples of the batch size
def test_statistics_are_numpys(tmp_path, count):
    images = photographs(count, 16, 16)
    found = statistics.measure(write_folder(tmp_path, images), 16, 3)
    assert tuple(found) == statistics.KEYS and found['mean_image'].shape == (16, 16, 3)
    in_source_order = np.concatenate([images[::2], images[1::2]])
    assert_measured(found, in_source_order)


def test_statistics_of_the_squares_that_crops_are_cut_from():
    images = photographs(9, 40, 61)
    source = example.ArraySource(images, np.zeros(9), 'a', 'nine')
    rule = functools.partial(crops.center_crop, size=20, short_side=(20, 20), square=True)
    found = statistics.measure(source, 20, 3, rule)
    squares = [np.asarray(Image.fromarray(image).resize((31, 20), Image.Resampling.BILINEAR)) for image in images]
    assert_measured(found, np.stack([square[:, 5:25] for square in squares]))  # 30.5 is 31; (31 - 20) // 2


def test_statistics_of_small_images_are_of_what_the_network_takes():
    digits = datasets.open_source('digits', 'test')
    found = statistics.measure(digits, 10, 1, fit='pad')
    assert_measured(found, np.pad(digits.images, ((0, 0), (1, 1), (1, 1), (0, 0))))
    assert abs(found['vectors']) == 1 and found['deviations'] == found['std']


def test_the_first_component_of_photographs_is_brightness():
    source = example.ArraySource(photographs(40, 16, 16), np.zeros(40), 'a', 'forty')
    found = statistics.measure(source, 16, 3, fit='pad')
    first = found['vectors'][:, 0]
    assert (np.abs(first) > 0.5).all() and len(set(np.sign(first))) == 1
    assert found['deviations'][0] > 2 * found['deviations'][1]


@pytest.mark.parametrize('level', [0, 128, 200, 255])
def test_images_of_one_color_have_no_deviation(level):
    source = example.ArraySource(np.full((40, 9, 9, 3), level, np.uint8), np.zeros(40), 'a', 'flat')
    found = statistics.measure(source, 9, 3, fit='pad')
    assert (found['mean'] == level).all() and (found['std'] < 0.05).all() and (found['deviations'] < 0.05).all()


def test_bad_images_stop_or_are_left_out(tmp_path):
    images = photographs(12, 16, 16)
    source = write_folder(tmp_path, images, classes=('cat',))
    (tmp_path / 'cat' / '003.png').write_bytes(b'')
    (tmp_path / 'cat' / '011.png').unlink()
    with pytest.raises(UserError, match='cat/003.png cannot be decoded'):
        statistics.measure(source, 16, 3)
    assert_measured(statistics.measure(source, 16, 3, on_bad_image='skip'), np.delete(images, (3, 11), axis=0))
    for path in (tmp_path / 'cat').iterdir():
        path.write_bytes(b'')
    with pytest.raises(UserError, match=f'{tmp_path}: no image can be read'):
        statistics.measure(source, 16, 3, on_bad_image='skip')


@pytest.fixture
def saved(tmp_path):
    source = example.ArraySource(photographs(5, 16, 16), np.zeros(5), 'a', 'five')
    found, path = statistics.measure(source, 16, 3, fit='pad'), tmp_path / statistics.NAME
    statistics.save(path, found)
    return found, path


def test_a_file_holds_what_was_measured(saved, tmp_path):
    found, path = saved
    again = statistics.load(path)
    assert tuple(again) == statistics.KEYS
    assert all(np.array_equal(again[key], found[key]) and again[key].dtype == found[key].dtype for key in found)
    assert [file.name for file in tmp_path.iterdir()] == [statistics.NAME]  # and nothing is left beside it
    statistics.save(path, found | {'mean': found['mean'] + 1})
    assert np.array_equal(statistics.load(path)['mean'], found['mean'] + 1)


def npy():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(3))
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def of_a_later_zip(data):
    at = data.index(b'PK\1\2') + 6  # in the central directory: the version that is needed to read it
    return data[:at] + b'\xff' + data[at + 1 :]


@pytest.mark.parametrize('broken', [
    lambda data: b'', lambda data: data[:100], lambda data: data[:-1], lambda data: b'mean: 123.7, 116.8, 103.9\n',
    lambda data: data[:200] + bytes(100) + data[300:], lambda data: npy(), lambda data: npz(mean=np.zeros(3)),
    lambda data: npz(**dict.fromkeys(statistics.KEYS, np.array([None]))),
    lambda data: of_a_later_zip(data),
])  # fmt: skip
def test_an_invalid_file_of_statistics_is_named(saved, broken):
    _, path = saved
    path.write_bytes(broken(path.read_bytes()))
    with pytest.raises(UserError, match='statistics.npz is not a statistics file that can be read') as error:
        statistics.load(path)
    assert '\n' not in str(error.value)


def test_a_file_that_is_not_there_can_be_made(tmp_path):
    with pytest.raises(UserError, match=f'no statistics in {tmp_path}/a.npz: make them with python data.py statistics'):
        statistics.load(tmp_path / 'a.npz')
    with pytest.raises(UserError, match='is a folder, not a regular file'):
        statistics.load(tmp_path)


# The command lines


@pytest.fixture
def small_alexnet(tmp_path):
    """A folder of ten images, and AlexNet's config for its size."""
    images = photographs(10, 36, 50)
    write_folder(tmp_path / 'data' / 'train', images)
    arguments = ['--config', 'configs/alexnet.py', '--config.dataset=folder', f'--config.data_dir={tmp_path}/data']
    arguments += ['--config.num_classes=2', '--config.image_size=32', '--config.batch_size=4']
    arguments += [f'--config.{crop}.short_side=(36, 36)' for crop in ('crop', 'test_crop')]
    return images, arguments


def test_statistics_from_the_command_line(script, small_alexnet, tmp_path):
    images, arguments = small_alexnet
    path = tmp_path / 'new' / 'mine.npz'
    done = script('data.py', 'statistics', *arguments, '--out', path)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    squares = np.concatenate([images[::2], images[1::2]])[:, :, 7:43]
    found = statistics.load(path)
    assert_measured(found, squares)
    assert f'{tmp_path}/data/train: 10 images of 36x36' in done.stdout
    assert f'mean: {", ".join(f"{value:.3f}" for value in found["mean"])}' in done.stdout
    assert f'--config.statistics={path}' in done.stdout and zipfile.is_zipfile(path)


def test_a_picture_of_a_batch(script, small_alexnet, tmp_path):
    images, arguments = small_alexnet
    path = tmp_path / 'grid.png'
    done = script('data.py', 'show', *arguments, '--out', path, '--step', 1, '--images', 3)
    assert done.returncode == 0 and done.stderr == '', done.stderr
    assert f'3 images of step 1 of {tmp_path}/data/train: {path}' in done.stdout
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert('RGB')).astype(int)
    empty = np.asarray(show.grid(np.zeros((3, 32, 32, 3), np.uint8), [''] * 3).convert('RGB'))
    assert pixels.shape == empty.shape == (32 + 16 + 4 + 4, 3 * (96 + 4) + 4, 3)
    shown = [pixels[4:36, 4 + 100 * column : 36 + 100 * column] for column in range(3)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(shown[a] - shown[b]).mean() > 5
    for image in shown:
        nearest = min(np.abs(image.mean((0, 1)) - photo.mean((0, 1))).mean() for photo in images)
        assert image.std() > 5 and nearest < 25  # as the photographs are, but for lighting
    captions = pixels[37:52, :, 0].reshape(15, -1)
    assert all((captions[:, 4 + 100 * column : 100 * column + 90] < 128).any() for column in range(3))
    assert (pixels[:, 36:100].min(-1) == 255)[:36].all()  # nothing beside an image


@pytest.mark.parametrize(('command', 'arguments', 'says'), [
    ('show', [], 'data.py: error: show needs --out; it takes --out, --step, --images'),
    ('show', ['--out', 'grid.npz'], '--out grid.npz is not a picture: pass --out FILE.png'),
    ('show', ['--out', 'grid.png', '--images=0'], 'flag --images=0: 0 is not a positive integer'),
    ('show', ['--out', 'grid.png', '--raw'], 'show has no flag --raw; it takes --out, --step, --images'),
    ('pack', [], 'no store: pass --out STORE'),
    ('pack', ['mnist'], 'pack takes only flags: --out, '),
    ('prepare', ['--data_dir=x'], 'prepare takes one name, such as mnist; got none'),
    ('shw', [], "no command 'shw', did you mean show? show: Draws"),
    ('statistics', ['--config.data_dir=nowhere'], 'no folder nowhere/train: pass --config.data_dir=FOLDER'),
])  # fmt: skip
def test_what_a_user_gets_wrong_is_reported_in_one_line(script, small_alexnet, tmp_path, command, arguments, says):
    out = ['--out', tmp_path / 'out.npz'] if command == 'statistics' else []
    done = script('data.py', command, *small_alexnet[1], *out, *arguments)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    assert says in done.stderr and done.stdout == ''
    assert not (tmp_path / 'out.npz').exists()


# The picture


def test_a_grid_has_a_cell_an_image_in_rows_of_eight():
    images = np.stack([np.full((20, 20, 3), 10 * number, np.uint8) for number in range(19)])
    sheet = np.asarray(show.grid(images, [str(number) for number in range(19)]))
    assert sheet.shape == (3 * (20 + 16 + 4) + 4, 8 * (96 + 4) + 4, 3)
    for number, image in enumerate(images):
        top, left = 4 + number // 8 * 40, 4 + number % 8 * 100
        assert np.array_equal(sheet[top : top + 20, left : left + 20], image)
    assert (sheet[84:, 304:] == 255).all()  # the last row is not full


def test_gray_images_are_shown_as_they_are_and_captions_are_cut():
    image = np.arange(120 * 120, dtype=np.uint8).reshape(1, 120, 120, 1)
    sheet = np.asarray(show.grid(image, ['n01440764 tench, Tinca tinca, and much more than fits here']))
    assert sheet.shape == (120 + 16 + 4 + 4, 120 + 4 + 4, 3)
    assert np.array_equal(sheet[4:124, 4:124], np.repeat(image[0], 3, -1))
    assert (sheet[:, 125:] == 255).all() and (sheet[124:, 4:124] < 128).any()

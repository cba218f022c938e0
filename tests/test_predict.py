"""predict.py on photographs as people have them: turned, of any mode, and very many."""

import io
import json
import re
import struct

import numpy as np
import pytest
from PIL import Image, ImageOps

from evaluation import apply, prediction
from figures import inputs, predictions, style
from input_pipeline import datasets
from runtime.errors import UserError


@pytest.fixture(scope='module')
def digit():
    """A digit that the small network reads, and not on its side, uint8 [8, 8]."""
    source = datasets.open_source('digits', 'test')
    return source.images[np.flatnonzero(source.labels == 7)[0], ..., 0]


def save(path, image, orientation=None, **options):
    exif = Image.Exif()
    if orientation:
        exif[0x112] = orientation
    Image.fromarray(image).save(path, exif=exif, **options)
    return str(path)


def test_a_photograph_is_read_upright(digits_run, digit, tmp_path):
    """What a phone stores for each orientation, by the EXIF standard's words: Pillow's own, the other way around."""
    member = inputs.open_one(digits_run[0], [digits_run[1]]).member
    turns = Image.Transpose
    stored = {  # what turns it upright, undone
        1: None, 2: turns.FLIP_LEFT_RIGHT, 3: turns.ROTATE_180, 4: turns.FLIP_TOP_BOTTOM, 5: turns.TRANSPOSE,
        6: turns.ROTATE_90, 7: turns.TRANSVERSE, 8: turns.ROTATE_270,
    }  # fmt: skip
    upright = Image.fromarray(digit)
    paths = []
    for orientation, turn in stored.items():
        image = np.asarray(upright if turn is None else upright.transpose(turn))
        paths.append(save(tmp_path / f'{orientation}.png', image, orientation))
    found = prediction.predict(member, prediction.Files(paths))
    assert all(entry['best'] == found[0]['best'] for entry in found)
    plain = [save(tmp_path / f'plain_{path[-5:]}', np.asarray(Image.open(path))) for path in paths]
    ignored = prediction.predict(member, prediction.Files(paths, ignore_exif=True))
    assert [entry['best'] for entry in ignored] == [
        entry['best'] for entry in prediction.predict(member, prediction.Files(plain))
    ]
    assert len({json.dumps(entry['best']) for entry in ignored}) > 4


def test_what_is_turned_is_said(tmp_path, digit):
    paths = [save(tmp_path / f'{n}.jpg', digit, orientation) for n, orientation in enumerate([1, 6, 3, None, 8, 5])]
    named = [paths[n] for n in (1, 2, 4)]
    assert prediction.Files(paths).notes == [f'turned upright by EXIF orientation: {", ".join(named)} and 1 more']
    assert prediction.Files(paths[:2]).notes == [f'turned upright by EXIF orientation: {paths[1]}']
    assert prediction.Files(paths, ignore_exif=True).notes == prediction.Files([paths[0], paths[3]]).notes == []
    with Image.open(paths[1]) as image:
        assert np.array_equal(prediction.Files(paths)[1].image[..., 0], np.asarray(ImageOps.exif_transpose(image)))


def test_a_broken_photograph_that_is_turned_is_named(digits_run, digit, tmp_path):
    member = inputs.open_one(digits_run[0], [digits_run[1]]).member
    path = save(tmp_path / 'a.jpg', np.kron(digit, np.ones((8, 8), np.uint8)), 6)
    data = (tmp_path / 'a.jpg').read_bytes()
    (tmp_path / 'a.jpg').write_bytes(data[:-20])
    with pytest.raises(UserError, match='a.jpg cannot be decoded: image file is truncated') as error:
        prediction.predict(member, prediction.Files([path]))
    assert str(error.value).count('a.jpg') == 1


def test_a_broken_photograph_is_left_out_as_the_message_says(digits_run, script, digit, tmp_path):
    good, bad = save(tmp_path / 'good.png', digit), tmp_path / 'bad.png'
    bad.write_bytes(b'no image')
    command = ('predict.py', '--checkpoint', digits_run[1], bad, good, '--json')
    refused = script(*command)
    assert refused.returncode == 2 and f'{bad} cannot be decoded' in refused.stderr
    flag = re.search('--config.on_bad_image=skip', refused.stderr)[0]
    done = script(*command, flag, '--grid', tmp_path / 'grid.png')
    assert done.returncode == 0 and f'note: left out, not readable as images: {bad}\n' == done.stderr
    assert [entry['file'] for entry in json.loads(done.stdout)] == [good] and (tmp_path / 'grid.png').exists()
    none = script('predict.py', '--checkpoint', digits_run[1], bad, flag)
    assert none.returncode == 2 and 'none of the files is a readable image' in none.stderr


def entries(count):
    return [{'best': [{'class': 0, 'name': f'{n}', 'probability': 0.5}]} for n in range(count)]


def test_pages_are_named_and_said_before_the_work(tmp_path, capsys):
    assert predictions.pages(tmp_path / 'g.png', 24) == [tmp_path / 'g.png'] and capsys.readouterr().err == ''
    for count, columns, number in ((25, 4, 2), (60, 1, 10), (600, 4, 25)):
        paths = predictions.pages(tmp_path / 'g.png', count, columns)
        width = len(str(number))
        assert [path.name for path in paths] == [f'g-{page:0{width}}.png' for page in range(1, number + 1)]
        assert (
            capsys.readouterr().err
            == f'note: {count} photographs fill {number} pages, {paths[0]} to {paths[-1].name}\n'
        )


def test_pages_are_bounded_and_show_every_photograph_once(tmp_path, monkeypatch):
    drawn, made = [], []

    def pictures():
        for n in range(13):
            made.append(n)
            yield np.full((900, 1200, 3), n, np.uint8)

    def save(figure, path, **options):
        drawn.append((figure, path))
        assert len(made) == min(6 * len(drawn), 13)  # a page's photographs at a time

    monkeypatch.setattr(style, 'save', save)
    paths = predictions.pages(tmp_path / 'g.png', 13, 1)
    predictions.draw(entries(13), pictures(), paths, 'title', 1)
    assert [path for _, path in drawn] == paths
    shown = [axes.images[0].get_array() for figure, _ in drawn for axes in figure.axes if axes.images]
    bars = [axes.texts[0].get_text().split()[0] for figure, _ in drawn for axes in figure.axes if axes.texts]
    assert [picture[0, 0, 0] for picture in shown] == list(range(13)) and bars == [str(n) for n in range(13)]
    assert {picture.shape for picture in shown} == {(480, 640, 3)}  # not the photograph's own
    assert max(max(figure.get_size_inches()) for figure, _ in drawn) * 100 < 3000
    assert [figure.get_suptitle() for figure, _ in drawn] == [f'title (page {page} of 3)' for page in (1, 2, 3)]


@pytest.mark.parametrize('columns', [0, 11])
def test_a_page_has_a_bounded_width(digits_run, tmp_path, columns):
    with pytest.raises(UserError, match='--columns must be 1 to 10'):
        predictions.make(tmp_path / 'x.png', digits_run[0], [digits_run[1]], columns=columns)


def nasty(folder, digit):
    """Photographs of which Pillow warns, or that are of unusual kinds."""
    large = np.kron(digit, np.ones((4, 4), np.uint8))
    palette = Image.fromarray(large).convert('P')
    palette.save(folder / 'palette.png', transparency=bytes(range(256)))
    jpeg = io.BytesIO()
    Image.fromarray(large).save(jpeg, 'JPEG')
    exif = b'Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01'  # nine entries, and the first ends early
    segment = b'\xff\xe1' + struct.pack('>H', len(exif) + 2) + exif
    (folder / 'exif.jpg').write_bytes(jpeg.getvalue()[:2] + segment + jpeg.getvalue()[2:])
    save(folder / 'sixteen.png', large.astype(np.uint16) * 257)
    save(folder / 'float.tif', large.astype(np.float32) / 255)
    save(folder / 'turned.jpg', np.rot90(large).copy(), 6)
    (folder / 'photo.heic').write_bytes(b'\0\0\0\x20ftypheic')


def test_the_script_says_what_it_does_and_nothing_of_pillows(digits_run, script, digit, tmp_path):
    nasty(tmp_path, digit)
    done = script('predict.py', '--checkpoint', digits_run[1], '--json', tmp_path, '--grid', tmp_path / 'grid.png')
    assert done.returncode == 0, done.stderr
    found = {entry['file'].split('/')[-1]: entry['best'][0]['name'] for entry in json.loads(done.stdout)}
    assert found['sixteen.png'] == found['float.tif'] == found['turned.jpg'] == found['exif.jpg'] == '7'
    turned = f'turned upright by EXIF orientation: {tmp_path}/turned.jpg (--ignore_exif leaves them as stored)'
    heic = '1 file or folder is skipped: photo.heic (this Pillow cannot read .heic: convert them)'
    assert done.stderr.splitlines() == [f'note: {tmp_path}: {heic}', f'note: {turned}']
    with Image.open(tmp_path / 'grid.png') as page:
        assert page.height < 3000


def test_features_of_photographs(digits_run, script, digit, tmp_path):
    config, workdir = digits_run
    photographs = tmp_path / 'photographs'
    photographs.mkdir()
    names = [save(photographs / f'{n}.png', np.roll(digit, n, 1)) for n in range(3)]
    (photographs / 'bad.png').write_bytes(b'no image')
    member = inputs.open_one(config, [workdir]).member
    for layer in ('', 'pool2'):
        out = tmp_path / f'{layer}.npz'
        flags = ('--layer', layer, '--config.on_bad_image=skip')
        done = script('predict.py', '--checkpoint', workdir, photographs, *flags, '--out', out)
        assert done.returncode == 0, done.stderr
        assert done.stderr == f'note: left out, not readable as images: {photographs}/bad.png\n'
        with np.load(out) as written:
            values = dict(written)
        expected, _ = apply.outputs(member, prediction.Files(names), apply.features(member, layer))
        np.testing.assert_allclose(values['features'], expected, atol=1e-4)
        assert values['files'].tolist() == names and values['layer'] == (layer or 'last hidden')
        assert expected.shape == ((3, 5, 5, 16) if layer else (3, 84))
        assert f'{out}: {layer or "last hidden layer"} of 3 photographs' in done.stdout


@pytest.mark.parametrize(
    'flags, message',
    [
        (('--layer', 'conv1'), 'pass --out FILE.npz, too'),
        (('--out', 'f.csv'), 'f.csv: features are written to a .npz file'),
        (('--out', 'missing/f.npz'), 'missing/f.npz cannot be written'),
        (('--out', 'f.npz', '--json'), 'leave --json out'),
        (('--out', 'f.npz', '--protocol', 'single'), 'leave --protocol out'),
    ],
)
def test_flags_of_features_that_cannot_be(digits_run, script, digit, tmp_path, flags, message):
    done = script('predict.py', '--checkpoint', digits_run[1], save(tmp_path / 'a.png', digit), *flags)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1

import base64
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from conftest import digits, page_requests
from PIL import Image

import architectures
import evaluation
from configs import lenet5
from evaluation import results
from figures import filters, markup, report
from runtime import stored_config
from runtime.errors import UserError
from training import checkpoints, log
from training.run import build_model

EPOCHS = [
    {
        'kind': 'epoch', 'step': 45 * epoch, 'epoch': epoch, 'learning_rate': 0.02, 'train_loss': 1 / epoch,
        'train_error': 31.25 / epoch, 'test_loss': 0.5 / epoch, 'test_top1_error': 17.22 / epoch,
        'test_top5_error': 2.5 / epoch, 'time': {'total': 1.0},
    }
    for epoch in (1, 2)
]  # fmt: skip


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The workdir of a run of LeNet-5 on scikit-learn's digits, with initial weights."""
    config = digits()
    workdir = tmp_path_factory.mktemp('runs') / 'a&b'
    variables = architectures.initialize(build_model(config), 0, (32, 32, 1))
    with checkpoints.Checkpoints(workdir / checkpoints.FOLDER) as kept:
        kept.save_model(variables, checkpoints.describe(config))
    (workdir / 'config.json').write_text(config.to_json_best_effort())
    (workdir / log.NAME).write_text(''.join(json.dumps(line) + '\n' for line in EPOCHS))
    return workdir


@pytest.fixture(scope='module')
def made(run, tmp_path_factory):
    """The page of that run."""
    out = tmp_path_factory.mktemp('page') / 'report.html'
    report.make(out, digits(), [str(run)], 'latest')
    return out


class Page(HTMLParser):
    """The contents of a page: its tables, addresses, pictures and text."""

    def __init__(self, html):
        super().__init__()
        self.tables, self.addresses, self.in_cell, self.text = [], [], False, ''
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.addresses += [value for name, value in attributes if name in ('src', 'href', 'xlink:href', 'action')]
        if tag == 'table':
            self.tables.append([])
        if tag == 'tr':
            self.tables[-1].append([])
        self.in_cell = tag in ('td', 'th')
        if self.in_cell:
            self.tables[-1][-1].append('')

    def handle_endtag(self, tag):
        self.in_cell = False

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.tables[-1][-1][-1] += data

    def table(self, *head):
        (found,) = [table for table in self.tables if table and tuple(table[0]) == head]
        return found[1:]


def rows_of(config, run):
    entry = evaluation.open_checkpoint(config, str(run), 'latest')
    return evaluation.evaluate(config, entry)


def test_the_numbers_are_the_evaluators(made, run):
    result, rows, names = rows_of(digits(), run)
    page = Page(made.read_text())
    assert 100 < result['wrong_top1'] < 360
    assert f'{result["top1_error"]:.2f}%' in page.text
    low, high = result['top1_interval']
    assert f'{result["wrong_top1"]} of 360 wrong, 95% interval {low:.2f} to {high:.2f}%' in page.text
    found = results.details(rows, names)
    classes = [[c['name'], str(c['num_examples']), f'{c["top1_error"]:.2f}%'] for c in found['classes']]
    assert page.table('class', 'images', 'top-1 error') == classes
    pairs = [[c['true'], c['predicted'], str(c['count'])] for c in found['confusions']][: report.PAIRS]
    assert page.table('true', 'predicted', 'times') == pairs


def test_wrong_images_are_the_images_most_sure_first(made, run):
    config = digits()
    _, rows, _ = rows_of(config, run)
    wrong = sorted((row for row in rows if row.rank > 0), key=lambda row: -row.probabilities[0])[: report.WRONG]
    section = re.search(r'Wrong images</h2>(.*?)</section>', made.read_text(), re.S)[1]
    figures = re.findall(r'<figure>.*?base64,([^"]+)".*?<figcaption>(.) → <b>(.)</b>', section, re.S)
    assert len(figures) == len(wrong)
    source = report.datasets.open_split(config, 'test')
    for (png, true, said), row in zip(figures, wrong, strict=True):
        assert (true, said) == (str(row.label), str(row.classes[0]))
        with Image.open(io.BytesIO(base64.b64decode(png))) as image:
            np.testing.assert_array_equal(np.asarray(image), source[row.index].image[..., 0])


def test_curves_and_filters_are_the_runs(made, run):
    html = made.read_text()
    found = Page(html).table(
        'epoch', 'step', 'training error', 'test error, top-1', 'test error, top-5', 'training loss', 'test loss'
    )
    assert [row[3] for row in found] == ['17.22%', '8.61%']
    assert html.count('<svg') == 1
    section = re.search(r'Filters</h2>(.*?)</section>', html, re.S)[1]
    assert '6 kernels of 5×5×1, conv1' in section
    with Image.open(io.BytesIO(base64.b64decode(re.search(r'base64,([^"]+)', section)[1]))) as image:
        params = evaluation.open_checkpoint(digits(), str(run), 'latest').member.variables['params']
        mosaic = filters.mosaic(filters.scaled(np.asarray(params['conv1']['kernel'])))
        assert abs(np.asarray(image) / 255 - mosaic).max() <= 0.5 / 255 + 1e-6


def test_it_opens_without_a_network_and_without_complaint(chromium, made):
    page = Page(made.read_text())
    assert page.addresses
    assert all(address.startswith(('#', 'data:')) for address in page.addresses)
    assert not re.search(r'url\((?!#)|@import|<(script|link|iframe|object)\b', made.read_text())
    page_requests(chromium)
    chromium.get_log('browser')
    chromium.get(made.as_uri())
    assert page_requests(chromium) == [made.as_uri()]
    assert chromium.get_log('browser') == []
    assert 'a&b, step' in chromium.title  # escaped once
    broken = 'return [...document.images].filter((image) => !image.naturalWidth).length'
    assert chromium.execute_script(broken) == 0
    wide = 'return document.documentElement.scrollWidth <= document.documentElement.clientWidth'
    assert chromium.execute_script(wide)


def test_what_is_not_there_is_reported_with_the_command(chromium, run, tmp_path):
    folder = tmp_path / 'moved'
    folder.mkdir()
    (folder / 'checkpoints').symlink_to(run / 'checkpoints')
    config = json.loads((run / 'config.json').read_text()) | {'dataset': 'mnist', 'data_dir': 'gone'}
    (folder / 'config.json').write_text(json.dumps(config))
    out = tmp_path / 'report.html'
    report.make(out, stored_config.get_config(str(folder)), [str(folder)])
    text = Page(out.read_text()).text
    assert "Nothing was tested: MNIST is not in 'gone'" in text
    assert f'python visualize.py report --checkpoint {folder} --out report.html --config.data_dir=FOLDER' in text
    assert 'no epoch in its metrics.jsonl' in text
    assert 'python train.py --config configs/lenet5.py --config.data_dir=FOLDER' in text
    assert 'Wrong images' not in text
    chromium.get_log('browser')
    chromium.get(out.as_uri())
    assert chromium.get_log('browser') == []
    named = stored_config.get_config(str(folder))
    named.data_dir = 'elsewhere'  # on the command line
    with pytest.raises(UserError, match="MNIST is not in 'elsewhere'"):
        report.make(out, named, [str(folder)])


def test_names_are_shown_and_never_obeyed(chromium, run, tmp_path):
    """A class called like a tag, and a file, of a folder of images."""
    evil = ['<b onmouseover=alert(1)>', '<img src=x onerror=alert(1)>', *map(str, range(2, 10))]
    rng = np.random.default_rng(0)
    for name in evil:
        folder = tmp_path / 'data' / 'test' / name
        folder.mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (32, 32), np.uint8)
            Image.fromarray(pixels).save(folder / f'"><script>{number}.png')
    config = digits(dataset='folder', data_dir=str(tmp_path / 'data'))
    out = tmp_path / 'report.html'
    report.make(out, config, [str(run)])
    chromium.get_log('browser')
    chromium.get(out.as_uri())
    assert chromium.get_log('browser') == []
    assert not chromium.find_elements('css selector', '[onerror], [onmouseover], script, td b, td img')
    cells = [cell.text for cell in chromium.find_elements('css selector', '#part3 td')]
    assert set(evil) <= set(cells)
    assert chromium.find_elements('css selector', "img[alt^='\"><script>']")


def test_the_same_run_gives_the_same_page(made, run, tmp_path):
    again = tmp_path / 'report.html'
    report.make(again, digits(), [str(run)], 'latest')
    assert again.read_bytes() == made.read_bytes()


def test_a_picture_larger_than_its_place_is_shrunk():
    pixels = np.zeros((300, 600, 3), np.uint8)
    html = markup.picture(pixels, 'a "wide" one')
    assert 'width="160" height="80"' in html
    assert 'alt="a &quot;wide&quot; one"' in html
    small = markup.picture(pixels[:28, :28, :1], 'digit')
    assert 'image/png' in small
    assert 'width="84" height="84"' in small


def test_it_is_a_page_or_nothing(tmp_path):
    with pytest.raises(UserError, match=r'report is a page: pass --out FILE\.html'):
        report.make(tmp_path / 'a.svg', lenet5.get_config(), ['nowhere'])


@pytest.mark.slow
def test_the_command_reports_on_published_weights(chromium, converted, script, test_data, tmp_path):
    folder, out = converted('lenet_iter_10000.caffemodel', 'lenet_caffe'), tmp_path / 'report.html'
    data = f'--config.data_dir={test_data / "mnist"}'
    ended = script('visualize.py', 'report', '--checkpoint', folder, '--out', out, data)
    assert (ended.returncode, ended.stderr) == (0, ''), ended.stderr
    text = Page(out.read_text()).text
    assert '86 of 10,000 wrong' in text
    assert 'lenet_iter_10000' in text
    assert 'These weights were converted: there is no log' in text
    chromium.get_log('browser')
    chromium.get(out.as_uri())
    assert chromium.get_log('browser') == []

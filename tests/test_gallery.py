"""The commands in docs/gallery.md make the pictures beside them."""

import re
import shlex

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

GALLERY = (ROOT / 'docs/gallery.md').read_text()
# [(file of a picture, command)]: a picture, its text and its command.
PICTURES = re.findall(r'!\[[^\]]*\]\((gallery/\w+\.png)\)\n[^!]*?```\n(python visualize\.py .*?)\n```', GALLERY, re.S)
# What needs no run: drawn from the networks and the papers, or from BVLC's weights within seconds.
DRAWN = [
    (picture, command)
    for picture, command in PICTURES
    if re.search(r'py (timeline|depth|architecture|block) ', command)
    or re.search(r'py filters --checkpoint runs/bvlc_googlenet', command)
    or ('conv2' in picture and 'googlenet' in picture)
]


def test_each_picture_has_a_command():
    pictures = re.findall(r'\((gallery/\w+\.png)\)', GALLERY)
    assert [picture for picture, _ in PICTURES] == pictures
    assert {f'gallery/{path.name}' for path in (ROOT / 'docs/gallery').iterdir()} == set(pictures)


@pytest.mark.slow
@pytest.mark.parametrize('picture, command', DRAWN)
def test_a_command_makes_its_picture(picture, command, script, tmp_path, request):
    """In all but scale, and a fifth of the ink: the pictures have a palette, and other versions have other fonts."""
    _, name, *arguments = shlex.split(command)
    arguments[arguments.index('--out') + 1] = str(tmp_path / 'out.png')
    if 'runs/bvlc_googlenet' in arguments:
        weights = request.getfixturevalue('converted')('bvlc_googlenet.caffemodel', 'googlenet')
        photographs = request.getfixturevalue('test_data') / 'imagenet'
        arguments = [re.sub('DIR$', str(photographs), word) for word in arguments]
        arguments[arguments.index('runs/bvlc_googlenet')] = str(weights)
    done = script(name, *arguments)
    assert done.returncode == 0, done.stderr
    committed = Image.open(ROOT / 'docs' / picture).convert('RGB')
    drawn = Image.open(tmp_path / 'out.png').convert('RGB')
    assert drawn.width / committed.width == pytest.approx(drawn.height / committed.height, rel=0.01)
    expected = np.asarray(committed, float)
    difference = np.abs(np.asarray(drawn.resize(committed.size, Image.Resampling.LANCZOS), float) - expected).mean()
    paper = np.median(expected, (0, 1))
    assert difference < 0.2 * np.abs(expected - paper).mean()

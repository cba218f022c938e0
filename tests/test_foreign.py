"""Reading files that somebody else wrote: the boundary, regular files, and JSON with a schema."""

import bz2
import json
import lzma
import os
import struct
import tarfile
import tokenize
import zipfile
import zlib
from typing import Annotated

import msgspec
import pytest

from runtime import foreign
from runtime.errors import UserError


@pytest.mark.parametrize(
    'error',
    [
        zlib.error('bad'), lzma.LZMAError('bad'), tokenize.TokenError('bad'), struct.error('bad'),
        zipfile.BadZipFile('bad'), tarfile.ReadError('bad'), UnicodeDecodeError('utf-8', b'a', 0, 1, 'bad'),
        OverflowError('bad'), NotImplementedError('bad'), OSError('bad'), KeyError('bad'), TypeError('bad'),
        ValueError('bad\nand more'), EOFError(), RecursionError('bad'), MemoryError('bad'),
        json.JSONDecodeError('', '', 0),
    ],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_whatever_a_parser_raises_is_a_line_that_names_the_file(error):
    with pytest.raises(UserError) as raised, foreign.parsing('w.npz', 'a NumPy archive'):
        raise error
    message = str(raised.value)
    assert message.startswith('w.npz is not a NumPy archive that can be read: ') and '\n' not in message


@pytest.mark.parametrize(
    'error', [AssertionError(), NameError('x'), ImportError('x'), UserError('x'), FileNotFoundError(2, 'no', 'w.npz')]
)
def test_our_mistakes_and_errors_that_name_their_file_pass_through(error):
    with pytest.raises(type(error)) as raised, foreign.parsing('w.npz', 'a NumPy archive'):
        raise error
    assert raised.value is error


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / 'a.jpg')
    (tmp_path / 'zero').symlink_to('/dev/zero')
    (tmp_path / 'sparse').touch()
    os.truncate(tmp_path / 'sparse', 6 << 30)
    (tmp_path / 'link').symlink_to('file')
    (tmp_path / 'file').write_bytes(b'data')
    for name, says in (
        ('a.jpg', 'a.jpg is a FIFO, not a regular file'),
        ('zero', 'zero is a device, not a regular file'),
        ('', 'is a folder, not a regular file'),
        ('sparse', 'sparse has 6,442,450,944 bytes; at most 1,000 are read'),
    ):
        with pytest.raises(UserError, match=says):
            foreign.read_regular(tmp_path / name, at_most=1000)
    assert foreign.read_regular(tmp_path / 'link') == b'data'
    with pytest.raises(FileNotFoundError):
        foreign.open_regular(tmp_path / 'none')


class Entry(msgspec.Struct):
    name: str
    count: Annotated[int, msgspec.Meta(ge=0, le=9)]
    loss: float = 0.0


@pytest.mark.parametrize(
    'text, says',
    [
        (b'{"name": "a", "count": 10}', r'Expected `int` <= 9 - at `\$.count`'),
        (b'{"name": 1, "count": 1}', r'Expected `str`, got `int` - at `\$.name`'),
        (b'{"name": "a", "count": true}', r'Expected `int`, got `bool` - at `\$.count`'),
        (b'{"count": 1}', 'missing required field `name`'),
        (b'[]', 'Expected `object`, got `array`'),
        (b'null', 'Expected `object`, got `null`'),
        (b'{"name": "\xff"', "codec can't decode byte 0xff"),
        (b'[' * 100_000, 'nested too deeply'),
        (b'[' * 70 + b']' * 70, 'nested too deeply'),
        (b'', 'Expecting value'),
    ],
)
def test_json_of_another_structure_is_refused(tmp_path, text, says):
    (tmp_path / 'entry.json').write_bytes(text)
    with pytest.raises(UserError, match=f'entry.json is not an entry that can be read: .*{says}'):
        foreign.read_json(tmp_path / 'entry.json', Entry, 'an entry')


def test_json_with_numbers_that_are_not_finite_is_read(tmp_path):
    (tmp_path / 'entry.json').write_text(json.dumps({'name': 'a', 'count': 3, 'loss': float('inf'), 'more': 1}))
    assert foreign.read_json(tmp_path / 'entry.json', Entry, 'an entry') == Entry('a', 3, float('inf'))


def test_a_damaged_bz2_member_is_a_line():
    data = bytearray(bz2.compress(bytes(1000)))
    data[20] ^= 255
    with pytest.raises(UserError, match='b.bz2 is not a file that can be read'), foreign.parsing('b.bz2', 'a file'):
        bz2.decompress(bytes(data))

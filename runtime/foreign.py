"""Files that somebody else wrote: opened only if they are regular, parsed inside one boundary, checked before use."""

import contextlib
import json
import os
import stat

from runtime.errors import UserError, first_line

JSON_LIMIT = 64 << 20  # bytes; a config, a passport and a manifest have far fewer

_AXES = 32
_DEPTH = 64  # of JSON
_FEW_BYTES = 64 << 20  # may always be unpacked
_LONGEST = 2**31 - 1  # of an axis
_NO_WAIT = getattr(os, 'O_NONBLOCK', 0) | getattr(os, 'O_BINARY', 0) | getattr(os, 'O_CLOEXEC', 0)
_OUR_MISTAKES = AssertionError, NameError, ImportError


@contextlib.contextmanager
def parsing(path, kind, advice=''):
    """Turn whatever a parser raises in the `with` block into a UserError that names the file.

    Keep the block to the parsing of one file. Errors of the file system that name their file, `UserError`s and mistakes
    in our own code (a failed assertion, an undefined name) pass through.

    Args:
      path: the file, for the message.
      kind: what it should be, with its article: 'a NumPy archive'.
      advice: what to do, for the end of the message.

    Raises:
      UserError: the parser raised an exception.
    """
    try:
        yield
    except (UserError, *_OUR_MISTAKES):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        reason = f'{first_line(error)} is missing' if isinstance(error, KeyError) else first_line(error)
        if isinstance(error, MemoryError):
            reason = 'it declares more data than fits in memory'
        elif isinstance(error, RecursionError):
            reason = 'it is nested too deeply'
        advice = advice and f'; {advice}'
        raise UserError(f'{path} is not {kind} that can be read: {reason}{advice}') from error


def most_unpacked(packed_bytes):
    """Return how many bytes may be unpacked from so many packed ones: real data packs to more than a 64th."""
    return max(_FEW_BYTES, 64 * packed_bytes)


def open_regular(path, at_most=None):
    """Open a regular file for reading bytes; a FIFO, a device or a folder is refused without waiting for it.

    Args:
      path: the file; a symbolic link is followed.
      at_most: the largest size in bytes; None for any.

    Returns:
      A binary file.

    Raises:
      UserError: it is not a regular file, or is larger.
      OSError: it does not exist or cannot be opened.
    """
    descriptor = os.open(path, os.O_RDONLY | _NO_WAIT)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise UserError(f'{path} is {_kind(status.st_mode)}, not a regular file')
        if at_most is not None and status.st_size > at_most:
            raise UserError(f'{path} has {status.st_size:,} bytes; at most {at_most:,} are read')
        return os.fdopen(descriptor, 'rb')
    except BaseException:
        os.close(descriptor)
        raise


def _kind(mode):
    kinds = {stat.S_ISDIR: 'a folder', stat.S_ISFIFO: 'a FIFO', stat.S_ISCHR: 'a device', stat.S_ISBLK: 'a device'}
    return next((name for is_kind, name in kinds.items() if is_kind(mode)), 'a special file')


def check_folder(folder, of_json=()):
    """Raise UserError if a folder that a library reads has something other than regular files, at any depth.

    Args:
      folder: the folder; nothing is checked if it does not exist.
      of_json: names of folders in it whose files have at most JSON_LIMIT bytes.
    """
    for parent, _, names in os.walk(folder):
        for path in (os.path.join(parent, name) for name in names):
            try:
                status = os.stat(path)
            except FileNotFoundError:  # removed in the meantime
                continue
            if not stat.S_ISREG(status.st_mode):
                raise UserError(f'{path} is {_kind(status.st_mode)}, not a regular file')
            if os.path.basename(parent) in of_json and status.st_size > JSON_LIMIT:
                raise UserError(f'{path} has {status.st_size:,} bytes; at most {JSON_LIMIT:,} are read')


def read_regular(path, at_most=None):
    """Return the bytes of a regular file; see `open_regular`."""
    with open_regular(path, at_most) as file:
        return file.read()


def read_json(path, schema, kind, at_most=JSON_LIMIT, advice=''):
    """Read a JSON file and check its structure.

    Args:
      path: the file, UTF-8. NaN and infinities are accepted, as Python writes them.
      schema: a type that `msgspec.convert` takes: a `msgspec.Struct`, `dict[str, int]`, an annotated range, ...
      kind: what it should be, with its article: 'a passport'.
      at_most: its largest size in bytes.
      advice: what to do, for the end of the message.

    Returns:
      An instance of `schema`.

    Raises:
      UserError: not a regular file, too large, not JSON, or of another structure; the message says where.
      OSError: it cannot be opened.
    """
    return parse_json(read_regular(path, at_most), schema, path, kind, advice)


def parse_json(data, schema, path, kind, advice=''):
    """Return JSON bytes as an instance of `schema`; see `read_json`."""
    import msgspec

    with parsing(path, kind, advice):
        value = json.loads(data, object_pairs_hook=unique)
        _check_depth(value)
        return msgspec.convert(value, schema)


def _check_depth(value):
    """Raise ValueError if lists and objects of JSON are nested more deeply than any file of ours; Python varies."""
    level = [value]
    for _ in range(_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
        ]
    if level:
        raise ValueError('it is nested too deeply')


def read_npz(path, kind, at_most=None, advice='', names=None):
    """Return {name: array} of a NumPy archive; at most `most_unpacked` of its size is read.

    Args:
      path, kind, at_most, advice: see `read_json`.
      names: the arrays to read; None for all.

    Raises:
      UserError, OSError: see `read_json`.
    """
    import numpy as np

    with parsing(path, kind, advice), open_regular(path, at_most) as file, np.load(file, allow_pickle=False) as arrays:
        members = arrays.zip.infolist()
        if sum(member.file_size for member in members) > most_unpacked(os.fstat(file.fileno()).st_size):
            raise ValueError('it unpacks to more than such a file holds')
        stored = unique((member.filename.removesuffix('.npy'), member) for member in members)
        return {name: arrays[name] for name in stored if names is None or name in names}


def unique(pairs):
    """Return a dict of (name, value) pairs; raise ValueError if a name occurs twice."""
    values = {}
    for name, value in pairs:
        if name in values:
            raise ValueError(f'{name!r} occurs twice')
        values[name] = value
    return values


def shape_of(sizes):
    """Return the shape that a file declares for an array; raise ValueError unless an array can have it.

    Args:
      sizes: a sequence of anything, which is not printed: it may be huge.
    """
    if not isinstance(sizes, list | tuple) or len(sizes) > _AXES:
        raise ValueError(f'an array has more than {_AXES} axes, or no shape')
    if not all(type(size) is int and 0 <= size <= _LONGEST for size in sizes):
        raise ValueError(f'an array has a size that is not a whole number from 0 to {_LONGEST}')
    return tuple(sizes)

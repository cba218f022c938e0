"""A packed store: a data set rewritten once as ArrayRecord files for fast training; `pack` writes it.

    STORE/manifest.json                                   the contents, see below
    STORE/SPLIT/pack-00000-of-00129.array_record          the records, in the order of the source
    STORE/SPLIT/pack-00000-of-00129.places.npy            the position of each record, for fast reading; may be deleted

A record is a header of 10 bytes, little-endian, and the image:

    label int32 | height uint16 | width uint16 | channels uint8 | kind uint8 (0 JPEG, 1 raw) | image

A raw image is height x width x channels bytes, row by row. Each record is its own group (`group_size:1`), so that it
can be read alone, and is not compressed.

The manifest has `format` (1), `kind` ('jpeg' or 'raw'), `short_side` in pixels, `channels`, for JPEG `quality` and
`subsampling`, and `splits`. Each split has `source`, `source_examples`, `class_names`, `numbered` (whether a class name
that is the class's number means that the class has no name), `shard_records` (examples of the source per shard),
`num_shards`, `num_examples` (null until the split is complete), `command` (which packs it) and `shards`: `name`,
`count`, `bytes`, `sha256`, `places_sha256` (of `.places.npy`; null without one; older stores lack the key), and
`left_out`, the errors of skipped images. A shard is listed when it is complete.
"""

import hashlib
import io
import os
import struct
import threading
from pathlib import Path
from typing import Annotated, NotRequired, TypedDict

import msgspec
import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from input_pipeline import classes, fingerprint
from input_pipeline.example import Example, check_label, check_split
from input_pipeline.progress import bar
from runtime import foreign, system
from runtime.errors import UserError, first_line

FORMAT = 1
MANIFEST = 'manifest.json'
KINDS = ('jpeg', 'raw')
HEADER = struct.Struct('<iHHBB')
MAX_SIDE = 65_500  # pixels: libjpeg's limit, and below the header's

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**40)]
_Sha256 = Annotated[str, msgspec.Meta(pattern='^[0-9a-f]{64}$')]


class _Shard(TypedDict):
    name: Annotated[str, msgspec.Meta(pattern=r'^[\w-]+\.array_record$')]
    count: _Count
    bytes: _Count
    sha256: _Sha256
    places_sha256: NotRequired[_Sha256 | None]
    left_out: list[str]


class _Split(TypedDict):
    source: str
    source_examples: _Count
    class_names: list[str]
    numbered: NotRequired[bool]
    shard_records: Annotated[int, msgspec.Meta(ge=1)]
    num_shards: _Count
    num_examples: _Count | None
    command: NotRequired[str]
    shards: list[_Shard]


class _Manifest(TypedDict):
    kind: Annotated[str, msgspec.Meta(pattern='^(jpeg|raw)$')]
    short_side: Annotated[int, msgspec.Meta(ge=1, le=MAX_SIDE)]
    channels: Annotated[int, msgspec.Meta(ge=1, le=3)]
    splits: dict[str, _Split]


def to_record(label, image, shape, kind):
    """Return a record; `image` is the bytes of a JPEG or of raw pixels, `shape` its (height, width, channels)."""
    return HEADER.pack(label, *shape, KINDS.index(kind)) + image


def from_record(record, name):
    """Return the `Example` of a record: a JPEG as bytes, a raw image as a uint8 [H, W, C] view of the record.

    Raises:
      ValueError: the record is invalid.
    """
    try:
        label, *shape, kind = HEADER.unpack_from(record)
        if 0 in shape or shape[2] not in (1, 3):
            raise ValueError(f'its image has the shape {shape}')
        image = memoryview(record)[HEADER.size :]
        image = image.tobytes() if KINDS[kind] == 'jpeg' else np.frombuffer(image, np.uint8).reshape(shape)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f'{name} is not a record of a packed store ({first_line(error)})') from None
    return Example(image, label, name)


def read_manifest(folder):
    """Return the manifest of a store.

    Raises:
      UserError: the manifest is missing, or has another format.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = foreign.read_json(path, dict[str, object], 'the manifest of a packed store')
    except FileNotFoundError:
        raise UserError(
            f'{folder} is not a packed store: pass --config.data_dir=STORE, or make one: python data.py pack '
            f'--config configs/NAME.py --out {folder}'
        ) from None
    if 'splits' not in manifest:
        raise UserError(f'{path} is not the manifest of a packed store')
    if manifest.get('format') != FORMAT:
        raise UserError(f'{path} has the format {manifest.get("format")}, but this version reads {FORMAT}: pack again')
    with foreign.parsing(path, 'the manifest of a packed store'):
        for split, entry in msgspec.convert(manifest, _Manifest)['splits'].items():
            _check_split_entry(split, entry)
    return manifest


def _check_split_entry(split, entry):
    """Raise ValueError if the numbers of a split in a manifest contradict each other."""
    shards, size = entry['shards'], entry['shard_records']
    names = [shard['name'] for shard in shards]
    if len(set(names)) < len(names) or len(names) > entry['num_shards']:
        raise ValueError(f'{split} lists a shard twice, or too many')
    if entry['num_shards'] != -(-entry['source_examples'] // size):
        raise ValueError(f'{split} has {entry["num_shards"]} shards for {entry["source_examples"]:,} examples')
    total = sum(shard['count'] for shard in shards)
    if entry['num_examples'] not in (None, total):
        raise ValueError(f'{split} has {entry["num_examples"]:,} examples, and its shards {total:,}')
    for shard in shards:
        if shard['count'] > size or shard['count'] * (_CHUNK_HEADER + HEADER.size) > shard['bytes']:
            raise ValueError(f'{shard["name"]} cannot have {shard["count"]:,} records')


def split_folder(folder, split):
    """Return the folder of a split's shards; in a slice ('train[:50%]'), '_' replaces special characters."""
    return Path(folder) / ''.join(c if c.isalnum() or c in '-._' else '_' for c in split)


def shard_is_complete(folder, split, shard):
    """Return whether a shard's file exists with the size in the manifest."""
    path = split_folder(folder, split) / shard['name']
    return path.is_file() and path.stat().st_size == shard['bytes']


def complete_split(folder, manifest, split):
    """Return the manifest's entry of a split.

    Raises:
      UserError: the split is missing or not finished, or a shard is missing or has the wrong size.
    """
    try:
        entry = manifest['splits'][check_split(split, tuple(manifest['splits']))]
    except UserError as error:
        raise UserError(f'{Path(folder) / MANIFEST}: {error}') from None
    command = _command(folder, entry)
    if len(entry['shards']) < entry['num_shards']:
        raise UserError(
            f'{folder}: {split} is not finished ({len(entry["shards"]):,} of {entry["num_shards"]:,} shards). '
            f'Finish it: {command}'
        )
    for shard in entry['shards']:
        if not shard_is_complete(folder, split, shard):
            path = split_folder(folder, split) / shard['name']
            size = f'has {path.stat().st_size:,} bytes' if path.exists() else 'is missing'
            raise UserError(f'{path} {size}, but the manifest says {shard["bytes"]:,}. Write it again: {command}')
    return entry


def _command(folder, entry):
    return entry.get('command') or f'python data.py pack --out {folder}'


def known_names(entry):
    """Return the class names of a split from its entry in the manifest; see `classes.known_names`."""
    names = tuple(entry['class_names'])
    return classes.without_numbers(names) if entry.get('numbered', True) else names  # older stores lack the key


_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 65_536, 24, 40  # bytes; of Riegeli, the format below ArrayRecord


def places_path(shard_path):
    """Return the path of the file with the positions of a shard's records: int64 [records, 2], see `find_places`."""
    return f'{str(shard_path).removesuffix(".array_record")}.places.npy'


def find_places(path, sizes):
    """Find the positions of a shard's records, to read them without ArrayRecord's reader.

    That reader hashes and copies each record while it holds Python's lock, which takes several times as long as reading
    it. A record that is its own group and not compressed is stored in the file unchanged, except for a header of 24
    bytes every 65,536 bytes; positions do not count these headers. Each record is compared with what ArrayRecord's
    reader returns.

    Args:
      path: the shard.
      sizes: of its records in order, in bytes.

    Returns:
      int64 [records, 2]: (position, size) in bytes; None if the file has an unexpected layout.
    """
    places, place = [], _CHUNK_HEADER  # the first chunk is the file's signature, without data
    reader = ArrayRecordReader(str(path), 'readahead_buffer_size:0,max_parallelism:0')
    file = os.open(path, system.READ)
    try:
        for number, size in enumerate(sizes):
            _, data_size, _, kind_and_count, decoded_size = struct.unpack('<5Q', read_place(file, place, _CHUNK_HEADER))
            if kind_and_count != ord('r') + (1 << 8) or decoded_size != size or data_size < size:
                return None
            place += _CHUNK_HEADER + data_size
            places.append((place - size, size))  # the record is at the end of its chunk
            if read_place(file, *places[-1]).tobytes() != reader.read([number])[0]:
                return None
        return np.array(places, np.int64).reshape(-1, 2)
    except OSError:
        return None
    finally:
        os.close(file)
        reader.close()


def read_place(file, place, size):
    """Read `size` bytes at a position of a shard, an open file; return uint8 [size]. Threads may share the file.

    Raises:
      OSError: the file is truncated.
    """
    record, skipped = np.empty(size, np.uint8), bytearray(_BLOCK_HEADER)
    block_data = _BLOCK - _BLOCK_HEADER
    blocks, within = divmod(place, block_data)
    start = blocks * _BLOCK + _BLOCK_HEADER + within
    buffers, done = [record[: block_data - within]], block_data - within
    while done < size:
        buffers += [skipped, record[done : done + block_data]]
        done += block_data
    for first in range(0, len(buffers), _MAX_BUFFERS):
        group = buffers[first : first + _MAX_BUFFERS]
        num_bytes = sum(map(len, group))
        if system.read_at(file, group, start) != num_bytes:
            raise OSError('it is truncated')
        start += num_bytes
    return record


_MAX_BUFFERS = 1_024  # Linux's limit for one call


class PackedSource:
    """A split of a packed store; see the module's docstring. Threads may share it.

    Raises:
      UserError: no store, no such split, an unfinished split (the message has the command that finishes it), a
        truncated shard, or an index of a shard (`.places.npy`) that does not fit it.
    """

    def __init__(self, folder, split):
        self._files, self._readers, self._lock = [], {}, threading.Lock()
        manifest = read_manifest(folder)
        entry = complete_split(folder, manifest, split)
        self.folder, self.split = folder, split
        self.name, self.class_names = f'{folder}/{split}', tuple(entry['class_names'])
        self.numbered = entry.get('numbered', True)
        self.paths = [str(split_folder(folder, split) / shard['name']) for shard in entry['shards']]
        counts = [shard['count'] for shard in entry['shards']]
        self._shards = fingerprint.of_text(f'{shard["count"]} {shard["sha256"]}' for shard in entry['shards'])
        self.ends = np.cumsum(counts, dtype=np.int64)
        left_out = sum(len(shard['left_out']) for shard in entry['shards'])
        self.notes = [f'{self.name}: {left_out:,} invalid images were skipped when it was packed'] if left_out else []
        places, slow = [np.empty((0, 2), np.int64)], []
        for path, shard in zip(self.paths, entry['shards'], strict=True):
            shard_places = read_places(path, shard, _command(folder, entry))
            if shard_places is None:
                slow.append(path)
                shard_places = np.full((shard['count'], 2), -1)
            places.append(shard_places)
        if slow:
            self.notes.append(f'{slow[0]} has no .places.npy: reading is slower ({len(slow):,} such shards)')
        self.places = np.concatenate(places)
        system.allow_open_files(len(self.paths))
        for path in self.paths:
            self._files.append(foreign.open_regular(path))

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f'{self.name} has no example {index}')
        shard = int(np.searchsorted(self.ends, index, side='right'))
        place, size = map(int, self.places[index])
        try:
            if place >= 0:
                record = read_place(self._files[shard].fileno(), place, size)
            else:
                first = self.ends[shard - 1] if shard else 0
                record = self._reader(shard).read([int(index - first)])[0]
        except (OSError, RuntimeError) as error:
            raise OSError(
                f'{self.name}[{index}] cannot be read from {self.paths[shard]}: {first_line(error)}'
            ) from None
        return check_label(from_record(record, f'{self.name}[{index}]'), self.class_names)

    def properties(self):
        """Return its properties for `fingerprint.of`."""
        total = int(sum(os.path.getsize(path) for path in self.paths))
        return {'shards': self._shards, 'records': fingerprint.of_contents(self, total)}

    def _reader(self, shard):
        with self._lock:
            if shard not in self._readers:
                self._readers[shard] = ArrayRecordReader(
                    self.paths[shard], 'readahead_buffer_size:0,max_parallelism:0', file_reader_buffer_size=32_768
                )
        return self._readers[shard]

    def __reduce__(self):
        return PackedSource, (self.folder, self.split)

    def __del__(self):
        while self._files:
            self._files.pop().close()


def read_places(path, shard, command):
    """Return the positions of a shard's records, see `find_places`; None if the file of positions is missing.

    Args:
      path: the shard.
      shard: its entry in the manifest.
      command: writes the shard again, for the message.

    Raises:
      UserError: the positions are not those of the shard: records overlap or are outside the shard, their number is
        another, or the file has another checksum.
    """
    file = places_path(path)
    try:
        data = foreign.read_regular(file, at_most=1_024 + 16 * shard['count'])
    except FileNotFoundError:
        return None
    try:
        with foreign.parsing(file, 'the index of a shard'):
            if (expected := shard.get('places_sha256')) and hashlib.sha256(data).hexdigest() != expected:
                raise ValueError('it has another SHA-256 than when it was written')
            places = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
            if places.shape != (shard['count'], 2) or places.dtype != np.int64:
                raise ValueError(f'it is {places.dtype} {list(places.shape)}, not int64 [{shard["count"]}, 2]')
            _check_places(places, shard['bytes'])
    except UserError as error:
        raise UserError(
            f'{error}. Delete it (reading is then slower), or delete {path} too and write both again: {command}'
        ) from None
    return places


def _check_places(places, shard_bytes):
    """Raise ValueError if records overlap, are not in order or are outside a shard of so many bytes."""
    end = shard_bytes - -(-shard_bytes // _BLOCK) * _BLOCK_HEADER
    starts, sizes = places.T
    if len(places) and (starts.min() < _CHUNK_HEADER or sizes.min() < HEADER.size or places.max() > end):
        raise ValueError('it names a place outside the shard')
    ends = starts + sizes
    if (ends > np.append(starts[1:] - _CHUNK_HEADER, end)[: len(ends)]).any():
        raise ValueError('the places that it names overlap')


def sha256(path):
    """Return the SHA-256 of a file in hexadecimal."""
    with foreign.open_regular(path) as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def verify(folder):
    """Compare the SHA-256 of every shard of a store; return (number of shards, number of examples).

    The positions of a shard's records are compared with ArrayRecord's if the manifest, of an older version, does not
    have their checksum.

    Raises:
      UserError: a split is unfinished, or a shard or its positions are not what was written; the message names it.
    """
    manifest = read_manifest(folder)
    splits = {split: complete_split(folder, manifest, split) for split in manifest['splits']}
    total = sum(shard['bytes'] for entry in splits.values() for shard in entry['shards'])
    with bar(f'verifying {folder}', total) as advance:
        for split, entry in splits.items():
            for shard in entry['shards']:
                path = split_folder(folder, split) / shard['name']
                if sha256(path) != shard['sha256']:
                    raise UserError(
                        f'{path} has another SHA-256 than when it was written. Remove it and write it again: '
                        f'{_command(folder, entry)}'
                    )
                places = read_places(path, shard, _command(folder, entry))
                if places is not None and 'places_sha256' not in shard:
                    exact = find_places(path, places[:, 1].tolist())
                    if exact is None or not np.array_equal(exact, places):
                        raise UserError(
                            f'{places_path(path)} does not name the places of the records of {path.name}: delete it'
                        )
                advance(shard['bytes'])
    shards = [shard for entry in splits.values() for shard in entry['shards']]
    return len(shards), sum(shard['count'] for shard in shards)

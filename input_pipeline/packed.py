"""A packed store: a data set rewritten once for fast training, in ArrayRecord; `pack` writes it.

    STORE/manifest.json                                   what is in it: see below
    STORE/SPLIT/pack-00000-of-00129.array_record          its records, in the order of the source
    STORE/SPLIT/pack-00000-of-00129.places.npy            where each lies, for fast reading; it can be missing

A record is a header of 10 bytes, little-endian, and the image:

    label int32 | height uint16 | width uint16 | channels uint8 | kind uint8 (0 JPEG, 1 raw) | image

A raw image is height x width x channels bytes, row by row. Each record is a group of its own (`group_size:1`), so that
any one is read alone, and is not compressed.

The manifest: `format` (1), `kind` ('jpeg' or 'raw'), `short_side` in pixels, `channels`, `quality` and `subsampling` of
JPEG; and for each of `splits` `source`, `source_examples`, `class_names`, `numbered` (whether a class that is called by
its own number has no name), `shard_records` (examples of the source to a shard), `num_shards`, `num_examples` (null
until the split is whole), `command` (what packs it), `shards`: `name`, `count`, `bytes`, `sha256`, and `left_out`, the
names of bad images. A shard is entered when it is whole.
"""

import hashlib
import json
import os
import struct
import threading
from pathlib import Path

import numpy as np
from array_record.python.array_record_module import ArrayRecordReader

from input_pipeline import classes
from input_pipeline.example import Example, check_label, check_split
from input_pipeline.progress import bar
from runtime import system
from runtime.errors import UserError, first_line

FORMAT = 1
MANIFEST = 'manifest.json'
KINDS = ('jpeg', 'raw')
HEADER = struct.Struct('<iHHBB')
LARGEST_SIDE = 65_500  # pixels: libjpeg's limit, and within the header's


def to_record(label, image, shape, kind):
    """A record: `image` is the bytes of a JPEG or of raw pixels, `shape` its (height, width, channels)."""
    return HEADER.pack(label, *shape, KINDS.index(kind)) + image


def from_record(record, name):
    """A record as an `Example`: a JPEG as bytes, a raw image as a uint8 [H, W, C] view of the record.

    Raises:
      ValueError: it is no such record.
    """
    try:
        label, *shape, kind = HEADER.unpack_from(record)
        image = memoryview(record)[HEADER.size :]
        image = image.tobytes() if KINDS[kind] == 'jpeg' else np.frombuffer(image, np.uint8).reshape(shape)
    except (struct.error, IndexError, ValueError) as error:
        raise ValueError(f'{name} is no record of a packed store ({first_line(error)})') from None
    return Example(image, label, name)


def read_manifest(folder):
    """The manifest of a store.

    Raises:
      UserError: there is none, or it is of another format.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(
            f'{folder} is no packed store: pass --config.data_dir=STORE, or make one: python data.py pack '
            f'--config configs/NAME.py --out {folder}'
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({first_line(error)})') from None
    if not isinstance(manifest, dict) or 'splits' not in manifest:
        raise UserError(f'{path} is no manifest of a packed store')
    if manifest.get('format') != FORMAT:
        raise UserError(f'{path} has the format {manifest.get("format")}, and this version reads {FORMAT}: pack again')
    return manifest


def split_folder(folder, split):
    """Where the shards of a split lie; a slice ('train[:50%]') keeps only letters, digits, '-', '.' and '_'."""
    return Path(folder) / ''.join(c if c.isalnum() or c in '-._' else '_' for c in split)


def shard_is_whole(folder, split, shard):
    """Whether a shard's file is there with the size that the manifest says."""
    try:
        return os.stat(split_folder(folder, split) / shard['name']).st_size == shard['bytes']
    except FileNotFoundError:
        return False


def checked_split(folder, manifest, split):
    """The manifest's entry of a split.

    Raises:
      UserError: the split is not there or not finished, or a shard is missing or not of the manifest's size.
    """
    held = manifest['splits'][check_split(split, tuple(manifest['splits']))]
    again = held['command'] or f'python data.py pack --out {folder}'
    if len(held['shards']) < held['num_shards']:
        raise UserError(
            f'{folder}: {split} is not finished ({len(held["shards"]):,} of {held["num_shards"]:,} shards). Finish it: '
            f'{again}'
        )
    for shard in held['shards']:
        if not shard_is_whole(folder, split, shard):
            path = split_folder(folder, split) / shard['name']
            size = f'has {path.stat().st_size:,} bytes' if path.exists() else 'is missing'
            raise UserError(f'{path} {size}, and the manifest says {shard["bytes"]:,}. Write it again: {again}')
    return held


def told(held):
    """The names of a split's classes, of its entry in the manifest; see `classes.known_names`."""
    names = tuple(held['class_names'])
    return classes.without_numbers(names) if held.get('numbered', True) else names  # older versions do not tell


_BLOCK, _BLOCK_HEADER, _CHUNK_HEADER = 65_536, 24, 40  # bytes; of Riegeli, ArrayRecord's own ground


def places_path(shard_path):
    """The file beside a shard that says where in it each record lies: int64 [records, 2], see `find_places`."""
    return f'{str(shard_path).removesuffix(".array_record")}.places.npy'


def find_places(path, sizes):
    """Where the records of a shard lie, so that they can be read without ArrayRecord's reader; None where unclear.

    That reader hashes and copies each record under Python's lock, which takes several times as long as reading it. A
    record that is a group of its own and not compressed lies in the file as it is, but for a header of 24 bytes at
    every 65,536: places count without those. Each record is compared with what ArrayRecord's reader gives.

    Args:
      path: the shard.
      sizes: of its records in order, bytes.

    Returns:
      int64 [records, 2]: place, size; both in bytes.
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
    """`size` bytes of a shard, an open file, at a place; uint8 [size]. Threads may share the file.

    Raises:
      OSError: the file ends before.
    """
    record, skipped = np.empty(size, np.uint8), bytearray(_BLOCK_HEADER)
    room = _BLOCK - _BLOCK_HEADER
    blocks, within = divmod(place, room)
    start = blocks * _BLOCK + _BLOCK_HEADER + within
    parts, at = [record[: room - within]], room - within
    while at < size:
        parts += [skipped, record[at : at + room]]
        at += room
    for first in range(0, len(parts), _MOST_PARTS):
        some = parts[first : first + _MOST_PARTS]
        wanted = sum(map(len, some))
        if system.read_at(file, some, start) != wanted:
            raise OSError('it is cut short')
        start += wanted
    return record


_MOST_PARTS = 1_024  # that Linux takes in a call


class PackedSource:
    """A split of a packed store; see the module's text. Threads may share it.

    Raises:
      UserError: no store, no such split, an unfinished one (the message has the command that finishes it), or a shard
        that is cut short.
    """

    def __init__(self, folder, split):
        self._files, self._readers, self._lock = [], {}, threading.Lock()
        manifest = read_manifest(folder)
        held = checked_split(folder, manifest, split)
        self.folder, self.split = folder, split
        self.name, self.class_names = f'{folder}/{split}', tuple(held['class_names'])
        self.numbered = held.get('numbered', True)
        self.paths = [str(split_folder(folder, split) / shard['name']) for shard in held['shards']]
        counts = [shard['count'] for shard in held['shards']]
        self.ends = np.cumsum(counts, dtype=np.int64)
        left_out = sum(len(shard['left_out']) for shard in held['shards'])
        self.notes = [f'{self.name}: {left_out:,} bad images were left out when it was packed'] if left_out else []
        places = [_load_places(path, count) for path, count in zip(self.paths, counts, strict=True)]
        slow = [path for path, known in zip(self.paths, places, strict=True) if known is None]
        if slow:
            self.notes.append(f'{slow[0]} (of {len(slow):,} shards) has no list of places, and is read more slowly')
        places = [
            np.full((count, 2), -1) if known is None else known for known, count in zip(places, counts, strict=True)
        ]
        self.places = np.concatenate([np.empty((0, 2), np.int64), *places])
        system.allow_open_files(len(self.paths))
        for path in self.paths:
            self._files.append(os.open(path, system.READ))

    def __len__(self):
        return len(self.places)

    def __getitem__(self, index):
        if not 0 <= index < len(self):
            raise IndexError(f'{self.name} has no example {index}')
        shard = int(np.searchsorted(self.ends, index, side='right'))
        place, size = map(int, self.places[index])
        try:
            if place >= 0:
                record = read_place(self._files[shard], place, size)
            else:
                first = self.ends[shard - 1] if shard else 0
                record = self._reader(shard).read([int(index - first)])[0]
        except (OSError, RuntimeError) as error:
            raise OSError(
                f'{self.name}[{index}] cannot be read from {self.paths[shard]}: {first_line(error)}'
            ) from None
        return check_label(from_record(record, f'{self.name}[{index}]'), self.class_names)

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
            os.close(self._files.pop())


def _load_places(path, count):
    try:
        with open(places_path(path), 'rb') as file:
            places = np.load(file)
    except (OSError, ValueError, EOFError):
        return None
    return places if places.shape == (count, 2) and places.dtype == np.int64 else None


def sha256(path):
    """The SHA-256 of a file, in hexadecimal."""
    with open(path, 'rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()


def verify(folder):
    """Reads all of a store and compares every shard's SHA-256; returns (shards, examples).

    Raises:
      UserError: a split is unfinished, or a shard is not what was written; the message names it.
    """
    manifest = read_manifest(folder)
    splits = {split: checked_split(folder, manifest, split) for split in manifest['splits']}
    total = sum(shard['bytes'] for held in splits.values() for shard in held['shards'])
    with bar(f'verifying {folder}', total) as advance:
        for split, held in splits.items():
            for shard in held['shards']:
                path = split_folder(folder, split) / shard['name']
                if sha256(path) != shard['sha256']:
                    raise UserError(
                        f'{path} is not what was written (SHA-256). Remove it and write it again: {held["command"]}'
                    )
                advance(shard['bytes'])
    shards = [shard for held in splits.values() for shard in held['shards']]
    return len(shards), sum(shard['count'] for shard in shards)

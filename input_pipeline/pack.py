"""Packs a data set once for fast training: `python data.py pack --config configs/NAME.py --out STORE`.

Images are resized so that their short side is `--short_side` pixels (256, or 512 for recipes that jitter the scale),
the long side in proportion, nothing cut off, by Pillow's antialiased bilinear filter. They are stored as JPEG of
quality 95 with the chroma halved both ways (4:2:0), OpenCV's default, as AlexNet's author stored his center squares
(cuda-convnet2, make-data). What has the size already is not resampled, and a JPEG of that size is stored untouched.
With `--raw` pixels are stored instead: several times as large, and nothing to decode.

The form of a store is in `packed`. Killed at any moment, the same command goes on after the last whole shard, and the
result is the same to the byte. Train from it with --config.dataset=pack --config.data_dir=STORE. `--verify STORE` reads
all of a store and compares its checksums.
"""

import contextlib
import errno
import io
import json
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import simplejpeg
from array_record.python.array_record_module import ArrayRecordWriter
from PIL import Image

from input_pipeline import classes, datasets, geometry, packed
from input_pipeline.example import check_label
from input_pipeline.progress import bar
from runtime import system
from runtime.errors import UserError, first_line, moved
from runtime.files import whole_file, write_whole

QUALITY = 95
SHARD_RECORDS = 10_000
SHARD_BYTES = 10**9


def prepare_record(source, index, short_side, kind, channels):
    """Example `index` of a source as the bytes of a record of the store.

    Raises:
      ValueError or OSError: it cannot be read, decoded or resized; the message names it.
    """
    example = check_label(source[index], source.class_names)
    encoded = example.image if isinstance(example.image, bytes) else None
    try:
        image = example.image if encoded is None else geometry.decode(encoded, channels)
        image = geometry.match_channels(image, channels)
        height, width = _size(*image.shape[:2], short_side)
    except ValueError as error:
        raise ValueError(f'{example.name} {error}') from None
    same = image.shape[:2] == (height, width)
    image = np.ascontiguousarray(geometry.resize(image, height, width))
    if kind == 'raw':
        data = image.tobytes()
    elif same and encoded is not None and _is_plain_jpeg(encoded):
        data = encoded
    else:
        # Pillow's encoder, not simplejpeg's, which is faster and has no accurate DCT below quality 96.
        buffer = io.BytesIO()
        pillow = Image.fromarray(image[..., 0] if channels == 1 else image)
        pillow.save(buffer, 'JPEG', quality=QUALITY, subsampling='4:2:0')
        data = buffer.getvalue()
    return packed.to_record(example.label, data, image.shape, kind)


def _size(height, width, short_side):
    height_then, width_then = geometry.short_side_size(height, width, short_side)
    if max(height_then, width_then) > packed.LARGEST_SIDE:
        raise ValueError(
            f'is {height}x{width}: at a short side of {short_side} its long side would be '
            f'{max(height_then, width_then):,} pixels, and at most {packed.LARGEST_SIDE:,} can be stored'
        )
    return height_then, width_then


def _is_plain_jpeg(encoded):
    """Whether it is a JPEG of the usual colour spaces, which the fast decoder takes."""
    try:
        return simplejpeg.decode_jpeg_header(encoded, strict=False)[2] in ('YCbCr', 'Gray')
    except ValueError:
        return False


def pack(
    chosen, folder, short_side, raw=False, channels=3, shard_records=0, on_bad_image='stop', threads=0, command=''
):
    """Writes sources into a store, or what is missing of it.

    Args:
      chosen: {name of a split: source}.
      folder: the store; new, empty, or one that was made with the same settings.
      short_side: in pixels.
      raw: pixels instead of JPEG.
      channels: 1 (gray) or 3 (RGB).
      shard_records: examples of the source to a shard; 0 means 10,000, or fewer where they would exceed about 1 GB.
      on_bad_image: 'stop', or 'skip' (it is left out, and its name is in the manifest).
      threads: that decode and encode; 0 means one a core.
      command: what a person types to finish the store.

    Returns:
      The manifest.

    Raises:
      UserError: the folder holds something else or is being written by another process, a bad image where the policy is
        'stop', or a shard cannot be written.
    """
    folder, kind = Path(folder), 'raw' if raw else 'jpeg'
    if short_side < 1 or shard_records < 0 or threads < 0:
        raise UserError('--short_side must be above 0, --shard_records and --threads at least 0')
    shard_records = shard_records or min(SHARD_RECORDS, max(1, SHARD_BYTES // (short_side**2 * (4 if raw else 1))))
    settings = {'format': packed.FORMAT, 'kind': kind, 'short_side': short_side, 'channels': channels}
    if not raw:
        settings |= {'quality': QUALITY, 'subsampling': '4:2:0' if channels == 3 else 'grey'}
    with _claimed(folder):
        manifest = _manifest(folder, settings)
        for split, source in chosen.items():
            entry = {
                'source': source.name,
                'source_examples': len(source),
                'class_names': list(source.class_names),
                'shard_records': shard_records,
                'num_shards': -(-len(source) // shard_records),
            }
            held = manifest['splits'].setdefault(split, entry | {'num_examples': None, 'shards': []})
            _compare(f'{folder}: {split}', held, entry)
            held['command'], held['numbered'] = command, getattr(source, 'numbered', False)
        _save(folder, manifest)
        workers = threads or system.cores()
        record = {'short_side': short_side, 'kind': kind, 'channels': channels}
        for split, source in chosen.items():
            _pack_split(folder, manifest, split, source, record, on_bad_image, workers)
    return manifest


@contextlib.contextmanager
def _claimed(folder):
    """Makes the folder and keeps other packers out of it; the lock goes with the process, however it ends."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(system.locked(folder))
        except BlockingIOError:
            raise UserError(f'another process is packing into {folder}: wait for it, or pass another --out') from None
        yield


def _manifest(folder, settings):
    """The manifest of a store that is there, or a new one for an empty folder."""
    if (folder / packed.MANIFEST).exists():
        manifest = packed.read_manifest(folder)
        _compare(folder, manifest, settings)
        return manifest
    held = sorted(entry.name for entry in folder.iterdir() if entry.suffix != '.partial' and entry.name != system.LOCK)
    if held:
        raise UserError(f'{folder} holds something else ({held[0]}): pass an --out that is new or empty')
    return settings | {'splits': {}}


def _compare(place, held, wanted):
    for key, value in wanted.items():
        if held.get(key) != value:
            was, now = ('others', 'those') if key == 'class_names' else (repr(held.get(key)), repr(value))
            raise UserError(
                f'{place} was begun with {key} {was}, not {now}: give the same again, or pass another --out'
            )


def _save(folder, manifest):
    """Writes the manifest; at any moment there is the whole old one or the whole new one."""
    write_whole(folder / packed.MANIFEST, json.dumps(manifest, indent=1))


def _pack_split(folder, manifest, split, source, record, on_bad_image, workers):
    """Writes the shards of a split that are missing or not whole, and enters each in the manifest."""
    held = manifest['splits'][split]
    place = packed.split_folder(folder, split)
    place.mkdir(exist_ok=True)
    for partial in place.glob('*.partial*'):  # of a run that was killed
        partial.unlink()
    whole = {shard['name']: shard for shard in held['shards'] if packed.shard_is_whole(folder, split, shard)}
    size, count = held['shard_records'], held['num_shards']
    missing = {}
    for number in range(count):
        name = f'pack-{number:05}-of-{count:05}.array_record'
        if name not in whole:
            missing[name] = range(number * size, min((number + 1) * size, len(source)))
    left = sum(map(len, missing.values()))
    if missing:
        held['num_examples'] = None
    pool = ThreadPoolExecutor(workers)
    try:
        with bar(f'packing {split}: {left:,} images', left) as advance:
            for name, indices in missing.items():
                records = _in_order(pool, lambda index: _attempt(source, index, record), indices, 4 * workers)
                whole[name] = _write_shard(place / name, records, on_bad_image, advance)
                held['shards'] = sorted(whole.values(), key=lambda shard: shard['name'])
                _save(folder, manifest)
    finally:
        pool.shutdown(cancel_futures=True)
    held['num_examples'] = sum(shard['count'] for shard in held['shards'])
    _save(folder, manifest)


def _in_order(pool, function, items, ahead):
    """function(item) for all items, in order, computed by the pool at most so many ahead."""
    waiting = deque()
    for item in items:
        waiting.append(pool.submit(function, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def _attempt(source, index, record):
    """The bytes of a record, or the error that there is none."""
    try:
        return prepare_record(source, index, **record)
    except (ValueError, OSError) as error:
        return error


def _write_shard(path, records, on_bad_image, advance):
    """Writes a shard under another name, and gives it its own when it is whole; returns its entry in the manifest."""
    partial = path.with_name(f'{path.name}.partial')
    sizes, left_out = [], []
    try:
        with _writer(partial) as writer:
            for record in records:
                if isinstance(record, Exception):
                    if on_bad_image == 'stop':
                        advice = 'Mend or remove it, or pass --config.on_bad_image=skip to leave such out'
                        raise UserError(f'{first_line(record)}. {advice}')
                    left_out.append(first_line(record))
                else:
                    writer.write(record)
                    sizes.append(len(record))
                advance()
        _sync(partial)
        entry = {'name': path.name, 'count': len(sizes), 'bytes': partial.stat().st_size}
        entry['sha256'] = packed.sha256(partial)
        _write_places(packed.places_path(path), packed.find_places(partial, sizes))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return entry | {'left_out': left_out}


def _write_places(path, places):
    Path(path).unlink(missing_ok=True)
    if places is not None:
        with whole_file(path, 'wb') as file:
            np.save(file, places)


def _sync(path):
    """Waits until a file is on the disk."""
    with open(path, 'rb+') as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _writer(path):
    """An ArrayRecord writer for a new file; closed in any case, and its errors said in a line."""
    writer = ArrayRecordWriter(str(path), 'group_size:1,uncompressed')
    try:
        yield writer
        writer.close()  # where most errors of writing come up
    except RuntimeError as error:
        reason = os.strerror(errno.ENOSPC) if 'No space left' in str(error) else first_line(error)
        raise UserError(f'{path} cannot be written: {reason}. Make room and give the same command again') from None
    finally:
        with contextlib.suppress(RuntimeError):
            writer.close()


def sources_of(config, which, folder):
    """The sources to pack, {name of a split: source}, of the same classes, also as what the store holds already.

    Args:
      config: see `configs/base.py`.
      which: 'train', 'test' or 'both'.
      folder: the store; it need not be there.

    Raises:
      UserError: see `datasets.open_splits`.
    """
    if which == 'both':
        train, test = datasets.open_splits(config)
        return {config.train_split: train, config.test_split: test}
    split, other = config.train_split, config.test_split
    split, other = (split, other) if which == 'train' else (other, split)
    is_there = (Path(folder) / packed.MANIFEST).is_file()
    held = packed.read_manifest(folder)['splits'].get(other) if is_there else None
    if not held:
        return {split: datasets.open_split(config, split)}
    source, names = datasets.open_split(config, split, any_classes=True), packed.known_names(held)
    if which == 'test':
        return {split: classes.relabel_to(source, names, f'{folder}/{other}', config.on_bad_image)}
    if not classes.same_classes(classes.known_names(source), names):
        raise UserError(f'{source.name} has other classes than {folder}/{other}: pass another --out')
    return {split: source}


if __name__ == '__main__':
    moved('python data.py pack')

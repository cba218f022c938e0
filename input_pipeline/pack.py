"""Packs a data set once for fast training: `python data.py pack --config configs/NAME.py --out STORE`.

Images are resized with Pillow's antialiased bilinear filter to a short side of `--short_side` pixels (256, or 512 for
recipes that jitter the scale); the aspect ratio is kept and nothing is cropped. They are stored as JPEG of quality 95
with the chroma halved in both directions (4:2:0), OpenCV's default, as AlexNet's author stored his center squares
(cuda-convnet2, make-data). Images that already have the size are not resampled, and JPEGs among them are stored
unchanged. With `--raw` pixels are stored instead: several times as large, but nothing to decode.

`packed` documents the format. If packing is interrupted, the same command resumes after the last complete shard, and
the result is the same, byte for byte. Train from it with --config.dataset=pack --config.data_dir=STORE.
`--verify STORE` compares the checksums of a store.
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
from runtime.files import atomic_file, write_atomically

QUALITY = 95
SHARD_RECORDS = 10_000
SHARD_BYTES = 10**9


@geometry.one_large_image()
def prepare_record(source, index, short_side, kind, channels):
    """Return the bytes of the store's record for example `index` of a source.

    Raises:
      ValueError or OSError: the example cannot be read, decoded or resized; the message names it.
    """
    example = check_label(source[index], source.class_names)
    encoded = example.image if isinstance(example.image, bytes) else None
    try:
        image = example.image if encoded is None else geometry.decode(encoded, channels)
        image = geometry.match_channels(image, channels)
        height, width = _size(*image.shape[:2], short_side)
    except ValueError as error:
        raise ValueError(f'{example.name} {error}') from None
    same_size = image.shape[:2] == (height, width)
    image = np.ascontiguousarray(geometry.resize(image, height, width))
    if kind == 'raw':
        data = image.tobytes()
    elif same_size and encoded is not None and _is_plain_jpeg(encoded):
        data = encoded
    else:
        # Pillow's encoder: simplejpeg's is faster but has no accurate DCT below quality 96.
        buffer = io.BytesIO()
        pillow = Image.fromarray(image[..., 0] if channels == 1 else image)
        pillow.save(buffer, 'JPEG', quality=QUALITY, subsampling='4:2:0')
        data = buffer.getvalue()
    return packed.to_record(example.label, data, image.shape, kind)


def _size(height, width, short_side):
    size = geometry.short_side_size(height, width, short_side)
    if max(size) > packed.MAX_SIDE:
        raise ValueError(
            f'is {height}x{width}: at a short side of {short_side} its long side would be {max(size):,} pixels, but at '
            f'most {packed.MAX_SIDE:,} can be stored'
        )
    return size


def _is_plain_jpeg(encoded):
    """Return whether an image is a JPEG in a usual color space, which the fast decoder can read."""
    try:
        return simplejpeg.decode_jpeg_header(encoded, strict=False)[2] in ('YCbCr', 'Gray')
    except ValueError:
        return False


def pack(
    sources, folder, short_side, raw=False, channels=3, shard_records=0, on_bad_image='stop', threads=0, command=''
):
    """Write sources to a store; shards that are already complete are kept.

    Args:
      sources: {name of the split: source}.
      folder: the store; new, empty, or made with the same settings.
      short_side: in pixels.
      raw: store pixels instead of JPEG.
      channels: 1 (gray) or 3 (RGB).
      shard_records: examples of the source per shard; 0 means 10,000, or fewer if they would exceed about 1 GB.
      on_bad_image: 'stop', or 'skip' (the image is left out, and the manifest names it).
      threads: that decode and encode; 0 means one per core.
      command: the command line that finishes the store, for the manifest.

    Returns:
      The manifest.

    Raises:
      UserError: the folder contains other files or is being written by another process, an image is invalid and
        `on_bad_image` is 'stop', or a shard cannot be written.
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
        for split, source in sources.items():
            split_settings = {
                'source': source.name,
                'source_examples': len(source),
                'class_names': list(source.class_names),
                'shard_records': shard_records,
                'num_shards': -(-len(source) // shard_records),
            }
            entry = manifest['splits'].setdefault(split, split_settings | {'num_examples': None, 'shards': []})
            _compare(f'{folder}: {split}', entry, split_settings)
            entry['command'], entry['numbered'] = command, getattr(source, 'numbered', False)
        _save(folder, manifest)
        workers = threads or system.cores()
        record_options = {'short_side': short_side, 'kind': kind, 'channels': channels}
        for split, source in sources.items():
            _pack_split(folder, manifest, split, source, record_options, on_bad_image, workers)
    return manifest


@contextlib.contextmanager
def _claimed(folder):
    """Create the folder and lock it against other packers; the lock ends with the process."""
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(system.locked(folder))
        except BlockingIOError:
            raise UserError(f'another process is packing into {folder}: wait for it, or pass another --out') from None
        yield


def _manifest(folder, settings):
    """Return the manifest of an existing store, or a new one for an empty folder."""
    if (folder / packed.MANIFEST).exists():
        manifest = packed.read_manifest(folder)
        _compare(folder, manifest, settings)
        return manifest
    names = sorted(entry.name for entry in folder.iterdir() if entry.suffix != '.partial' and entry.name != system.LOCK)
    if names:
        raise UserError(f'{folder} contains other files ({names[0]}): pass an --out that is new or empty')
    return settings | {'splits': {}}


def _compare(place, saved, settings):
    for key, value in settings.items():
        if saved.get(key) != value:
            old, new = ('others', 'these') if key == 'class_names' else (repr(saved.get(key)), repr(value))
            raise UserError(f'{place} was started with {key} {old}, not {new}: pass the same value, or another --out')


def _save(folder, manifest):
    """Replace the manifest atomically."""
    write_atomically(folder / packed.MANIFEST, json.dumps(manifest, indent=1))


def _pack_split(folder, manifest, split, source, record_options, on_bad_image, workers):
    """Write the missing and incomplete shards of a split, and add each to the manifest."""
    entry = manifest['splits'][split]
    split_folder = packed.split_folder(folder, split)
    split_folder.mkdir(exist_ok=True)
    for partial in split_folder.glob('*.partial*'):  # from a run that was killed
        partial.unlink()
    complete = {shard['name']: shard for shard in entry['shards'] if packed.shard_is_complete(folder, split, shard)}
    size, count = entry['shard_records'], entry['num_shards']
    missing = {}
    for number in range(count):
        name = f'pack-{number:05}-of-{count:05}.array_record'
        if name not in complete:
            missing[name] = range(number * size, min((number + 1) * size, len(source)))
    num_missing = sum(map(len, missing.values()))
    if missing:
        entry['num_examples'] = None
    pool = ThreadPoolExecutor(workers)
    try:
        with bar(f'packing {split}: {num_missing:,} images', num_missing) as advance:
            for name, indices in missing.items():
                records = _map_in_order(
                    pool, lambda index: _record_or_error(source, index, record_options), indices, 4 * workers
                )
                complete[name] = _write_shard(split_folder / name, records, on_bad_image, advance)
                entry['shards'] = sorted(complete.values(), key=lambda shard: shard['name'])
                _save(folder, manifest)
    finally:
        pool.shutdown(cancel_futures=True)
    entry['num_examples'] = sum(shard['count'] for shard in entry['shards'])
    _save(folder, manifest)


def _map_in_order(pool, function, items, ahead):
    """Yield function(item) for all items in order, computed by the pool at most `ahead` items in advance."""
    pending = deque()
    for item in items:
        pending.append(pool.submit(function, item))
        if len(pending) > ahead:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _record_or_error(source, index, record_options):
    try:
        return prepare_record(source, index, **record_options)
    except (ValueError, OSError) as error:
        return error


def _write_shard(path, records, on_bad_image, advance):
    """Write a shard to a temporary file and rename it when it is complete; return its entry in the manifest."""
    partial = path.with_name(f'{path.name}.partial')
    sizes, left_out = [], []
    try:
        with _writer(partial) as writer:
            for record in records:
                if isinstance(record, Exception):
                    if on_bad_image == 'stop':
                        advice = 'Fix or remove it, or pass --config.on_bad_image=skip to skip such images'
                        raise UserError(f'{first_line(record)}. {advice}')
                    left_out.append(first_line(record))
                else:
                    writer.write(record)
                    sizes.append(len(record))
                advance()
        _sync(partial)
        entry = {'name': path.name, 'count': len(sizes), 'bytes': partial.stat().st_size}
        entry['sha256'] = packed.sha256(partial)
        entry['places_sha256'] = _write_places(packed.places_path(path), packed.find_places(partial, sizes))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return entry | {'left_out': left_out}


def _write_places(path, places):
    """Write the positions of a shard's records and return the SHA-256 of the file; None if there are none."""
    Path(path).unlink(missing_ok=True)
    if places is None:
        return None
    with atomic_file(path, 'wb') as file:
        np.save(file, places)
    return packed.sha256(path)


def _sync(path):
    """Wait until a file is on disk."""
    with open(path, 'rb+') as file:
        os.fsync(file.fileno())


@contextlib.contextmanager
def _writer(path):
    """Open an ArrayRecord writer for a new file and close it at the end; its errors become a `UserError`."""
    writer = ArrayRecordWriter(str(path), 'group_size:1,uncompressed')
    try:
        yield writer
        writer.close()  # most write errors are raised here
    except RuntimeError as error:
        reason = os.strerror(errno.ENOSPC) if 'No space left' in str(error) else first_line(error)
        raise UserError(f'{path} cannot be written: {reason}. Free some space and run the same command again') from None
    finally:
        with contextlib.suppress(RuntimeError):
            writer.close()


def sources_of(config, which, folder):
    """Return the sources to pack, {name of the split: source}, with the classes of the splits already in the store.

    Args:
      config: see `configs/base.py`.
      which: 'train', 'test' or 'both'.
      folder: the store; it may not exist yet.

    Raises:
      UserError: see `datasets.open_splits`.
    """
    if which == 'both':
        train, test = datasets.open_splits(config)
        return {config.train_split: train, config.test_split: test}
    split, other = config.train_split, config.test_split
    split, other = (split, other) if which == 'train' else (other, split)
    exists = (Path(folder) / packed.MANIFEST).is_file()
    other_entry = packed.read_manifest(folder)['splits'].get(other) if exists else None
    if not other_entry:
        return {split: datasets.open_split(config, split)}
    source, names = datasets.open_split(config, split, any_classes=True), packed.known_names(other_entry)
    if which == 'test':
        return {split: classes.relabel_to(source, names, f'{folder}/{other}', config.on_bad_image)}
    if not classes.same_classes(classes.known_names(source), names):
        raise UserError(f'{source.name} has other classes than {folder}/{other}: pass another --out')
    return {split: source}


if __name__ == '__main__':
    moved('python data.py pack')

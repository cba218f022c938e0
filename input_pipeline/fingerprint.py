"""Fingerprints of data: digests of names, sizes, labels and images, by which a resumed run notices other data.

A name is the last part of a path, so that a folder may be moved and the released tars unpacked. All images are digested
if they are in memory, or in files of at most `_ALL_BYTES` together. Otherwise `_SAMPLES` of them are, beside the names,
sizes and labels of all files.
"""

import hashlib
import os
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from runtime import system

_ALL_BYTES = 32 << 20  # bytes
_SAMPLES = 64
_CHUNK = 16 << 20  # bytes of images in memory that a thread digests at a time
_known = weakref.WeakKeyDictionary()  # {source: its fingerprint}: the data of a run do not change


def of(source):
    """Return {property: its digest} of a source; the properties depend on how it stores the images: JSON values."""
    if source not in _known:
        _known[source] = {'number of images': len(source), **source.properties()}
    return dict(_known[source])


def differences(saved, current):
    """Return the differing properties of two fingerprints in words, 'the labels differ'; '' if they agree.

    Properties that only one of them has are not compared: the same images can be stored in several ways.
    """
    different = [key for key in saved.keys() & current.keys() if saved[key] != current[key]]
    order = [key for key in current if key in different]
    return f'the {" and the ".join(order)} differ' if order else ''


def of_arrays(*arrays):
    """Return the digest of NumPy arrays: their types, shapes and values."""
    sha = hashlib.sha256()
    for array in map(np.ascontiguousarray, arrays):
        sha.update(f'{array.dtype.str} {array.shape} '.encode())
        sha.update(array.reshape(-1).view(np.uint8))
    return sha.hexdigest()[:16]


def of_images(images):
    """Return the digest of images in memory, uint8 [N, H, W, C], computed in threads."""
    step = max(1, _CHUNK // max(1, images[:1].nbytes))
    with ThreadPoolExecutor(system.cores()) as pool:
        chunks = pool.map(of_arrays, (images[first : first + step] for first in range(0, len(images), step)))
        return of_text(chunks)


def of_text(lines):
    """Return the digest of lines, str or bytes."""
    data = b'\n'.join(line if isinstance(line, bytes) else str(line).encode() for line in lines)
    return hashlib.sha256(data).hexdigest()[:16]


def of_names(paths):
    """Return the digest of file names, without their folders; `paths` is bytes [N]."""
    return of_text(path.rpartition(b'/')[2] for path in paths.tolist())


def of_files(paths):
    """Return the sizes of files in bytes, int64 [N]; -1 for a file that is missing."""

    def size(path):
        try:
            return os.stat(path).st_size
        except OSError:
            return -1

    return np.fromiter(map(size, paths), np.int64)


def of_contents(source, total):
    """Return the digest of images and labels that are read one by one: all, or `_SAMPLES` if they are many.

    Args:
      source: see `sources`.
      total: bytes of all images.
    """
    count, sha = len(source) if total <= _ALL_BYTES else min(_SAMPLES, len(source)), hashlib.sha256()
    for number in np.unique(np.linspace(0, len(source) - 1, count).astype(int)).tolist():
        try:
            image, label, _ = source[number]
        except (OSError, ValueError):  # the loader names it, or skips it
            sha.update(b'unreadable ')
            continue
        sha.update(f'{label} '.encode() + (image if isinstance(image, bytes) else np.asarray(image).tobytes()))
    return sha.hexdigest()[:16]

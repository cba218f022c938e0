"""Small valid files of every format that the project reads, how each is damaged and read, and which values are right.

`FORMATS` is what test_damaged_data.py tries in process and scripts/hammer.py in child processes: `mutant` damages one
file of a format, `place` writes all of them to a folder, `read` reads it, and `is_right` judges the value.
"""

import csv
import gzip
import io
import json
import os
import pickle
import random
import re
import struct
import tarfile
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import mutate
import numpy as np
import scipy.io
from golden import FOLDER
from PIL import Image
from safetensors import numpy as safetensors

from evaluation import label_sets, prediction, results
from figures import landscape
from input_pipeline import geometry, labels, matlab, pack, packed, small_sets, sources, statistics, tar
from input_pipeline.example import NO_CLASSES, ArraySource, is_image
from runtime import command_line
from runtime.errors import UserError, first_line
from training import log, run
from weights import caffe_file, fetch, passport
from weights import files as weight_files
from weights.releases import RELEASES

ROOT = Path(__file__).parents[1]
TORCH = FOLDER / 'files'  # make_files.py wrote them with PyTorch
_TIME = 1_700_000_000  # of all files: the index of a tar is of its time


HUB_CONFIG = {  # as timm writes it: its resnet50.a1_in1k
    'architecture': 'resnet50', 'num_classes': 1000, 'num_features': 2048,
    'pretrained_cfg': {
        'tag': 'a1_in1k', 'custom_load': False, 'input_size': [3, 224, 224], 'test_input_size': [3, 288, 288],
        'interpolation': 'bicubic', 'crop_pct': 0.95, 'test_crop_pct': 1.0, 'crop_mode': 'center',
        'mean': [0.485, 0.456, 0.406], 'std': [0.229, 0.224, 0.225], 'num_classes': 1000, 'pool_size': [7, 7],
        'first_conv': 'conv1', 'classifier': 'fc', 'license': 'apache-2.0',
    },
}  # fmt: skip


class Format(NamedTuple):
    """A format.

    Fields:
      make: () -> {path in the folder: contents}.
      read: folder -> value; a damaged file is a `UserError`.
      rule: which value of a damaged file is right, beside that of the whole file: a sentence.
      right: (value, bytes of the damaged file, value of the whole file) -> whether it is; None if no other value is.
      target: the pattern of the paths that are damaged.
      kinds: names of how, see `_KINDS`.
      unpacks: bytes that reading may take, whatever the size of the file.
    """

    make: Any
    read: Any
    rule: str = 'none: checksums'
    right: Any = None
    target: str = '*'
    kinds: tuple = ('bytes',)
    unpacks: int = 0


_KINDS = {
    'bytes': mutate.damaged,
    'zip': mutate.damaged_zip,
    'json': lambda whole, seed, count: mutate.damaged_json(json.loads(whole), seed, count),
    'lines': mutate.damaged_lines,
    'gzip': mutate.damaged_gzip,
    'tar': mutate.damaged_tar,
    'png': mutate.damaged_png,
    'mat': mutate.damaged_mat,
}


def mutant(form, files, seed):
    """Return (path, contents) of one of the files of a format, damaged."""
    draw = random.Random(seed)
    path = draw.choice([path for path in sorted(files) if Path(path).match(form.target) and files[path]])
    kinds = [kind for kind in form.kinds if kind != 'json' or files[path].lstrip()[:1] in (b'{', b'[')]
    return path, next(_KINDS[draw.choice(kinds)](files[path], draw.getrandbits(32), 1))


def place(files, folder):
    """Write {path: contents} to a folder."""
    for path, content in files.items():
        target = Path(folder, path)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        os.utime(target, (_TIME, _TIME))


def read(form, folder):
    """Read the files of a format in a folder; any other exception than a `UserError` is raised.

    Returns:
      ('read', the value), ('refused', the message), or ('wrong', a message that is not one line which names the file).
    """
    try:
        return 'read', form.read(Path(folder))
    except UserError as error:
        is_line = '\n' not in str(error) and str(folder) in str(error)
        return 'refused' if is_line else 'wrong', str(error)


def is_right(form, value, damaged, whole):
    """Return whether a value is right, given the bytes of the damaged file and the value of the whole one."""
    return bool(same(value, whole) or (form.right and form.right(value, damaged, whole)))


def same(one, other):
    """Return whether two values are equal: their types, and the shapes, types and values of arrays."""
    if isinstance(one, np.ndarray | np.generic):
        return (
            type(one) is type(other)
            and one.dtype == other.dtype
            and one.shape == other.shape
            and np.array_equal(one, other, equal_nan=one.dtype.kind == 'f')
        )
    if isinstance(one, dict):
        return isinstance(other, dict) and one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


def _as_read_by(reference):
    """Return a `right` that takes what another reader makes of the same bytes: reference(data) -> value."""

    def right(value, data, _):
        try:
            return same(value, reference(data))
        except Exception:  # it refuses the file
            return False

    return right


# Contents


def noise(*shape):
    """Return random bytes, always the same of a shape."""
    return np.random.default_rng(shape).integers(0, 256, shape, np.uint8)


def normal(*shape):
    """Return random numbers, always the same of a shape."""
    return np.random.default_rng(shape).normal(size=shape)


def idx(array):
    """Return an array of bytes as an IDX file."""
    return struct.pack(f'>{1 + array.ndim}I', 0x800 + array.ndim, *array.shape) + array.tobytes()


def picture(height, width, mode='RGB'):
    """Return a Pillow image of coarse noise."""
    image = Image.fromarray(noise(height // 8, width // 8, 3)).resize((width, height))
    return Image.fromarray(np.asarray(image.convert('L'), np.uint16) * 257) if mode == 'I;16' else image.convert(mode)


def encoded(kind, mode='RGB', **options):
    """Return an image file of 24 x 40 pixels."""
    return saved(lambda file: picture(24, 40, mode).save(file, kind, **options))


def jpeg(height, width):
    """Return a JPEG."""
    return saved(lambda file: picture(height, width).save(file, 'JPEG', quality=90))


def tar_of(files):
    """Return a tar of {name: contents}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def saved(write, **values):
    """Return what write(file, **values) writes."""
    buffer = io.BytesIO()
    write(buffer, **values)
    return buffer.getvalue()


def mat_of(compressed=True, **values):
    """Return a MATLAB file."""
    return saved(lambda file: scipy.io.savemat(file, values, do_compression=compressed))


def meta(compressed):
    """Return a devkit's meta.mat of three classes."""
    rows = [(number, f'n0000000{number}', 'words', 0) for number in (3, 1, 2)] + [(4, 'n00000009', 'all', 3)]
    names = ('ILSVRC2012_ID', 'WNID', 'words', 'num_children')
    return mat_of(compressed, synsets=np.array(rows, [(name, object) for name in names])[:, None])


def blob(message, values, shape, old=False):
    """Fill one of Caffe's messages."""
    message.data.append(np.asarray(values, '<f4').tobytes())
    if old:
        message.num, message.channels, message.height, message.width = shape
    else:
        message.shape.dim.extend(shape)


def caffemodel():
    """Return a .caffemodel with a BatchNorm and an InnerProduct layer."""
    net = caffe_file.messages()['NetParameter']()
    layer = net.layer.add(name='bn', type='BatchNorm')
    for values in ([2.0, 4.0], [6.0, 8.0], [4.0]):
        blob(layer.blobs.add(), values, (len(values),))
    blob(net.layer.add(name='ip', type='InnerProduct').blobs.add(), np.arange(6), (2, 3))
    return net.SerializeToString()


def binaryproto():
    """Return a mean image of Caffe's."""
    message = caffe_file.messages()['BlobProto']()
    blob(message, normal(60), (1, 3, 4, 5), old=True)
    return message.SerializeToString()


def safetensors_file(header, data):
    """Return a .safetensors file with a header, JSON or bytes."""
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack('<Q', len(header)) + header + data


HEADER = {
    '__metadata__': {'license': 'CC0'},
    'a': {'dtype': 'F32', 'shape': [2, 3], 'data_offsets': [0, 24]},
    'b': {'dtype': 'F16', 'shape': [4], 'data_offsets': [24, 32]},
}


def npz(save=np.savez):
    """Return an .npz of two arrays."""
    return saved(save, a=np.arange(6.0).reshape(2, 3), b=np.ones(4, np.float32))


_ANSWER = {'shape': [2], 'rms': 1.0, 'values': [0.5, -0.5]}
CARD = {
    **{'architecture': 'lenet5', 'options': {}, 'num_classes': 2, 'source': {'file': 'x.npz', 'metadata': {}}},
    **{'licence': None, 'preprocessing': {}, 'classes': '', 'class_names': None, 'notes': []},
    'probe': {'conv1': _ANSWER, 'logits': _ANSWER},
}
PICKLED = {'data': noise(3, 3072), 'labels': [1, 2, 3], 'fine_labels': [1, 2, 3], 'coarse_labels': [4, 5, 6]}
PICKLES = (pickle.dumps(PICKLED, 2), pickle.dumps({key.encode(): value for key, value in PICKLED.items()}, 4))
IMAGES, LABELS = noise(3, 28, 28), np.uint8([1, 2, 3])
INNER = tar_of({'a.JPEG': jpeg(16, 16), 'b.JPEG': noise(700).tobytes()})
TAR = tar_of({'n0.tar': INNER, 'n1.tar': INNER})
THREE = ArraySource(noise(3, 8, 8, 1), [0, 1, 2], 'abc', 'three')
STATISTICS = statistics.of_mean_image(noise(4, 4, 3).astype(np.float32))
ROWS = [results.Row(k, f'{k}.jpg', k, k % 2, 0.25 * k, (k, 1, 0), (0.5, 0.25, 0.125)) for k in range(4)]
_EPOCH = {
    **{'learning_rate': 0.02, 'train_error': 3.0, 'train_loss': 0.5},
    **{'test_top1_error': 12.5, 'test_top5_error': 1.5, 'test_loss': 2.0},
}
LOG = [
    {'kind': 'tracker', 'step': 0, 'tracker': 'wandb', 'id': 'a1', 'time': {'total': 0.5}},
    {'kind': 'train', 'step': 10, 'loss': 2.5, 'time': {'total': 1.0}},
    {'kind': 'epoch', 'step': 20, 'epoch': 1.0, **_EPOCH, 'time': {'total': 2.0}},
    {'kind': 'decision', 'step': 20, 'by_hand': 'learning_rate', 'time': {'total': 2.0}},
    {'kind': 'epoch', 'step': 40, 'epoch': 2.0, **_EPOCH, 'test_top1_error': 10.0, 'time': {'total': 4.0}},
]
INFO = {
    **{'architecture': 'lenet5', 'architecture_options': {}, 'num_classes': 2, 'class_names': ['a', 'b']},
    'clock': {'step': 1.5},
}


def _one(path, content):
    """Return a `make` of one file; content may be a function."""
    return lambda: {path: content() if callable(content) else content}


def _in_folder(write):
    """Return the files that write(folder) writes."""
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder))
        paths = [path for path in Path(folder).rglob('*') if path.is_file()]
        return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def _make_indexed_tar():
    def write(folder):
        place({'train.tar': TAR}, folder)
        tar.TarSource(folder / 'train.tar')

    return _in_folder(write)


def _make_store(raw):
    small = ArraySource(noise(12, 8, 8, 3), np.arange(12) % 3, 'abc', 'noise')
    return _in_folder(
        lambda folder: pack.pack({'train': small}, folder, 8, raw=raw, shard_records=6, command='python data.py pack')
    )


def _make_config():
    config = command_line.read_config(str(ROOT / 'configs/lenet5_digits.py'))
    return {'config.json': config.to_json_best_effort(indent=1).encode()}


def _make_checkpoint():
    import jax.numpy as jnp

    from training.checkpoints import Checkpoints
    from training.step import TrainState, zero_totals

    state = TrainState(
        step=jnp.int32(7),
        params={'w': jnp.arange(600.0).reshape(20, 30), 'b': jnp.ones(4)},
        batch_stats={},
        opt_state=({'m': jnp.ones(30)}, ()),
        order_digest=jnp.uint32(2**32 - 1),
        window=zero_totals(),
        epoch=zero_totals(),
        controller={},
        average={},
    )

    def write(folder):
        with Checkpoints(folder / 'checkpoints') as manager:
            manager.save(state, INFO, 4.0)

    return _in_folder(write)


def _make_grid():
    def write(folder):
        grid = landscape._Saved(folder / 'l.png.npz', {'points': 3, 'span': 0.5, 'seed': 0})
        for number in range(2):
            grid.surface(number, {'checkpoint': f'c{number}', 'weights': 'ab'}, (3, 3))[:] = normal(3, 3)
        grid.save()

    return _in_folder(write)


def _make_partial():
    lines = ({'data': 'a', 'images': {'labels': 'x'}}, *ROWS)
    return {'evaluation_single.partial': b''.join(json.dumps(line).encode() + b'\n' for line in lines)}


# Readers


def _read_weights(folder):
    (path,) = folder.iterdir()
    return weight_files.read(path).tensors


def _read_hub_config(folder):
    path = folder / 'config.json'
    config = fetch._hub_config(path)
    return fetch._network(path, config), fetch._pixels(path, config)


def _is_a_network_with_a_crop(value, data, whole):
    arch, pixels = value
    if not pixels:
        return arch in RELEASES
    side, (short, _) = pixels['image_size'], pixels['test_crop']['short_side']
    return arch in RELEASES and 1 <= side <= short <= 10 * side <= 40_960


def _read_passport(folder):
    card = passport.read(folder)
    passport.check(card, CARD['probe'], folder)
    return card


def _read_checkpoint(folder):
    from training.checkpoints import Checkpoints, locate

    with Checkpoints(locate(folder)[0], read_only=True) as manager:
        step = manager.choose('latest')
        return manager.info(step), manager.read_model(step), manager._read('training', step)


def _read_config(folder):
    try:
        config = command_line.read_config(f'{ROOT / "runtime/stored_config.py"}:{folder}')
        run.check(config)
    except UserError as error:  # `check` is of any config, and does not know its file
        raise UserError(f'{folder}: {error}') from None
    return json.loads(config.to_json_best_effort())


def _read_log(folder):
    rows = log.read(folder)
    resumed = log.RunLog(folder, rows, 20, {'total': 4.0}, writes=False)
    resumed.last_epoch(), resumed.best_epoch()
    return rows


def _read_tar(folder):
    source = tar.TarSource(folder / 'train.tar', on_bad_image='skip')
    examples = [source[number] for number in range(len(source))]
    return sorted((source.class_names[label], os.path.basename(name), image) for image, label, name in examples)


def _tar_read_by_tarfile(data):
    images = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode='r:') as outer:
        for name, content in _members(outer):
            if name.endswith('.tar'):
                with tarfile.open(fileobj=io.BytesIO(content), mode='r:') as inner:
                    label = os.path.basename(name).removesuffix('.tar')
                    images |= {(label, file): content for file, content in _members(inner)}
    return sorted(
        (label, os.path.basename(name), content)
        for (label, name), content in images.items()
        if is_image(os.path.basename(name)) and not set(name.split('/')[:-1]) & set(NO_CLASSES)
    )


def _members(archive):
    """Return [(name, contents)] without symbolic links and devices, which are left out with a note to the user."""
    members = [member for member in archive if not member.isdir() and not member.issym()]
    files = [(member.name, archive.extractfile(member)) for member in members]
    return [(name, file.read()) for name, file in files if file]


def _in_tar(value, data, _):
    return all(content in TAR for _, _, content in value)


def _read_store(folder):
    packed.verify(folder)
    return _records(folder)


def _records(folder):
    source = packed.PackedSource(folder, 'train')
    try:
        examples = [source[number] for number in range(len(source))]
    except (OSError, ValueError) as error:  # the loader stops there, or skips the image
        raise UserError(first_line(error)) from None
    return [(np.asarray(example.image).tobytes(), example.label) for example in examples]


def _is_records(value, data, whole):
    return len(value) == len(whole) and all(0 <= label < 3 for _, label in value)


def _read_idx(folder):
    images, numbers = small_sets.idx(folder, 'test', 'MNIST', '')
    return ArraySource(images, numbers, '0123456789', str(folder)).images, numbers


def _idx_payload(data):
    count, height, width = struct.unpack_from('>3I', data, 4)
    return np.frombuffer(data[16:], np.uint8).reshape(count, height, width, 1), LABELS


def _read_cifar(description, label, split):
    def read(folder):
        images, numbers = small_sets.cifar(folder, split, description, label)
        return ArraySource(images, numbers, map(str, range(100)), str(folder)).images, numbers

    return read


def _cifar_payload(width, column):
    def reference(data):
        records = np.frombuffer(data, np.uint8).reshape(-1, width + 3072)
        return records[:, width:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), records[:, column]

    return reference


class _DataOnly(pickle._Unpickler):  # in Python: the one in C reserves as much memory as a damaged memo asks for
    def find_class(self, module, name):
        allowed = {
            ('numpy.core.multiarray', '_reconstruct'), ('numpy._core.multiarray', '_reconstruct'),
            ('numpy', 'ndarray'), ('numpy', 'dtype'), ('_codecs', 'encode'),
        }  # fmt: skip
        if (module, name) not in allowed:
            raise pickle.UnpicklingError(f'{module}.{name}')
        return super().find_class(module, name)


def _cifar_pickle(label):
    def reference(data):
        batch = _DataOnly(io.BytesIO(data), encoding='latin-1').load()
        batch = {key.decode() if isinstance(key, bytes) else key: value for key, value in batch.items()}
        images = batch['data'].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        return images, np.array(batch[label], np.uint8)

    return reference


def _read_svhn(folder):
    images, numbers = small_sets.svhn(folder, 'test')
    return ArraySource(images, numbers, '0123456789', str(folder)).images, numbers


def _is_svhn(value, data, whole):
    images, numbers = value
    return images.dtype == np.uint8 and images.shape[1:] == (32, 32, 3) and len(images) == len(numbers)


def _are_numbers(value, data, _):
    return value.keys() <= {'a', 'b'} and all(a.dtype.kind in 'iuf' and a.nbytes <= len(data) for a in value.values())


def _are_classes(value, data, _):
    return len(set(value)) == len(value) and all(re.fullmatch(r'n[0-9]{8}', wnid) for wnid in value)


def _read_statistics(folder):
    return {key: np.asarray(value) for key, value in statistics.load(folder / 'statistics.npz').items()}


def _npz_read_by_numpy(data):
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def _finite_float32(data):
    arrays = {name: np.asarray(value, np.float32) for name, value in _npz_read_by_numpy(data).items()}
    assert all(np.isfinite(array).all() for array in arrays.values())
    return arrays


def _are_weights(value, data, _):
    return all(
        type(name) is str and array.dtype == np.float32 and np.isfinite(array).all() for name, array in value.items()
    ) and sum(array.size for array in value.values()) <= 4 * len(data)


def _read_labels(folder):
    numbers, names, _ = labels.read_labels(folder / 'labels.csv', ['a.jpg', 'b.jpg'])
    return [names[number] for number in numbers]


def _labels_read_by_csv(data):
    rows = list(csv.reader(io.StringIO(data.decode('utf-8-sig'))))
    return {row[0].strip(): row[1:] for row in rows if row}


def _are_in_csv(value, data, _):
    cells = {cell.strip().lstrip('+0') for row in _labels_read_by_csv(data).values() for cell in row}
    return len(value) == 2 and all(name.lstrip('0') in cells for name in value)


def _read_annotated(folder):
    source = sources.AnnotatedFolderSource(folder)
    return [source.class_names[number] for number in source.labels]


def _are_in_lines(value, data, _):
    fields = {field for line in data.decode().splitlines() for field in line.split('\t')[1:2]}
    return len(value) == 2 and set(value) <= fields


def _read_real(folder):
    accepted = label_sets._real(str(folder / 'real.json'), THREE)
    return [tuple(accepted(number)) for number in range(3)]


def _read_image(folder):
    (path,) = folder.iterdir()
    try:
        return geometry.decode(prediction.Files([path])[0].image)
    except (ValueError, OSError) as error:  # as the loader does
        raise UserError(f'{path}: {first_line(error)}') from None


def _is_as_pillow_reads_it(value, data, _):
    with Image.open(io.BytesIO(data)) as image:
        size, mode = (image.height, image.width, 3), image.mode
        if value.dtype != np.uint8 or value.shape != size:
            return False
        if mode in ('RGB', 'L', 'P') and not image.has_transparency_data:
            return np.array_equal(value, np.asarray(image.convert('RGB')))
        return True


def _read_partial(folder):
    path = folder / 'evaluation_single.partial'
    with results.Partial(path, {'data': 'a', 'images': {'labels': 'x'}}, True, range(4)) as partial:
        return [tuple(row) for row in partial.rows]


def _loads(line):
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return None


def _are_lines(value, data, whole):
    """Whether rows are lines of the data, in order, each once, with all those that are not damaged."""
    lines = [_loads(line) for line in data.split(b'\n')]
    places = iter(lines)
    kept = [row for row in whole if any(same(row, line) for line in lines)]
    return all(any(same(row, line) for line in places) for row in value) and all(
        any(same(row, other) for other in value) for row in kept
    )


def _is_the_json(value, data, _):
    return same(value, json.loads(data))


def _has_the_json(value, data, _):
    def agrees(part, saved):
        if isinstance(saved, dict) and isinstance(part, dict):
            return all(key in part and agrees(part[key], value) for key, value in saved.items())
        return same(part, saved) or (type(part) in (int, float) and part == saved)

    return agrees(value, json.loads(data))


def _read_grid(folder):
    identity, surfaces = landscape.read(folder / 'l.png.npz')
    return identity, surfaces


def _grid_read_by_numpy(data):
    arrays = _npz_read_by_numpy(data)
    identity = json.loads(str(arrays['what']))
    return identity, [arrays[f'losses{number}'] for number in range(len(identity['networks']))]


# The table

_WEIGHTS = 'finite float32 arrays with names, at most four numbers for a byte of the file'
_IMAGE = 'uint8 of the size in the header; the pixels that Pillow reads, where its mode is RGB, L or P'
_IDX = 'the bytes after the header, of the shape in it'
_LISTED = b'a.jpg\tn01\t0\t0\nb.jpg\tn02\t0\t0\n'
_PIXELS = 3 * 3 * geometry.MAX_PIXELS


def _image(content, kinds=('bytes',)):
    return Format(_one('image', content), _read_image, _IMAGE, _is_as_pillow_reads_it, kinds=kinds, unpacks=_PIXELS)


def _weights(name, content, **options):
    return Format(_one(name, content), _read_weights, **options)


def _reference(rule, reference):
    return {'rule': rule, 'right': _as_read_by(reference)}


_NPZ = _reference("NumPy's, finite and as float32", _finite_float32)
_CIFAR10, _CIFAR100 = small_sets.CIFAR10, small_sets.CIFAR100

FORMATS = {
    # Weights
    'weights.npz': _weights('x.npz', npz, kinds=('bytes', 'zip'), **_NPZ),
    'weights.npz, packed': _weights('x.npz', lambda: npz(np.savez_compressed), kinds=('bytes', 'zip'), **_NPZ),
    'weights.pth': _weights(
        'x.pth', (TORCH / 'checkpoint_zip.pth').read_bytes(), rule=_WEIGHTS, right=_are_weights, kinds=('bytes', 'zip')
    ),
    'weights.pth, legacy': _weights(
        'x.pth', (TORCH / 'checkpoint_legacy.pth').read_bytes(), rule=_WEIGHTS, right=_are_weights
    ),
    'weights.safetensors': _weights(
        'x.safetensors', safetensors_file(HEADER, np.arange(16, dtype='<f2').tobytes()),
        rule="the safetensors library's, as float32", right=_as_read_by(
            lambda data: {name: np.asarray(array, np.float32) for name, array in safetensors.load(data).items()}
        ),
    ),
    'weights.caffemodel': _weights('x.caffemodel', caffemodel, rule=_WEIGHTS, right=_are_weights),
    'mean.binaryproto': Format(
        _one('mean.binaryproto', binaryproto),
        lambda folder: caffe_file.read_mean(folder / 'mean.binaryproto'),
        'a finite float32 image of three channels, no larger than the file',
        lambda value, data, _: value.dtype == np.float32 and value.nbytes <= len(data) and value.shape[2:] == (3,),
    ),
    'passport.json': Format(
        _one('passport.json', json.dumps(CARD).encode()), _read_passport, "Python's json", _is_the_json,
        kinds=('bytes', 'json'),
    ),
    'config.json of a release': Format(
        _one('config.json', json.dumps(HUB_CONFIG).encode()), _read_hub_config,
        'a network that has releases, and a crop that a photograph has', _is_a_network_with_a_crop,
        kinds=('bytes', 'json'),
    ),
    # What a run, an evaluation and a figure wrote
    'checkpoint (Orbax)': Format(_make_checkpoint, _read_checkpoint, 'none: digests', kinds=('bytes', 'json')),
    'config.json': Format(
        _make_config, _read_config, "every key has the value that Python's json reads", _has_the_json,
        kinds=('bytes', 'json'),
    ),
    'metrics.jsonl': Format(
        _one('metrics.jsonl', b''.join(json.dumps(row).encode() + b'\n' for row in LOG)), _read_log,
        'the whole lines, and damaged ones that are still rows', _are_lines, kinds=('bytes', 'lines'),
    ),
    'partial evaluation': Format(
        _make_partial, _read_partial, 'the whole lines, and damaged ones that are still rows',
        lambda value, data, whole: _are_lines([list(row) for row in value], data, ()),
        kinds=('bytes', 'lines'),
    ),
    'landscape grid': Format(
        _make_grid, _read_grid, kinds=('bytes', 'zip'), **_reference("NumPy's and Python's json", _grid_read_by_numpy)
    ),
    # Data
    'tar of tars': Format(
        _one('train.tar', TAR), _read_tar, kinds=('bytes', 'tar'), **_reference("tarfile's", _tar_read_by_tarfile)
    ),
    'index of a tar': Format(_make_indexed_tar, _read_tar, target='*.npz'),
    'index of a tar, forged': Format(
        _make_indexed_tar, _read_tar, 'bytes inside the tar', _in_tar, '*.npz', ('zip',)
    ),
    'store: shard': Format(lambda: _make_store(True), _read_store, target='*.array_record'),
    'store: shard, not verified': Format(
        lambda: _make_store(False), _records, 'as many records, with labels of the classes', _is_records,
        '*.array_record',
    ),
    'store: places': Format(lambda: _make_store(True), _read_store, target='*.npy'),
    'store: manifest': Format(
        lambda: _make_store(True), _read_store, 'none: the images and labels', target='*.json', kinds=('bytes', 'json')
    ),
    'IDX': Format(
        lambda: {'t10k-images-idx3-ubyte': idx(IMAGES), 't10k-labels-idx1-ubyte': idx(LABELS)}, _read_idx,
        target='*images*', **_reference(_IDX, _idx_payload),
    ),
    'IDX, gzip': Format(
        lambda: {
            't10k-images-idx3-ubyte.gz': gzip.compress(idx(IMAGES), mtime=0),
            't10k-labels-idx1-ubyte': idx(LABELS),
        },
        _read_idx, target='*images*', kinds=('bytes', 'gzip'),
        **_reference(_IDX, lambda data: _idx_payload(gzip.decompress(data))),
    ),
    'CIFAR-10, binary': Format(
        _one('test_batch.bin', np.minimum(noise(2, 3073), [9] + 3072 * [255]).astype(np.uint8).tobytes()),
        _read_cifar(_CIFAR10, 'labels', 'test'), **_reference('the bytes of each record', _cifar_payload(1, 0)),
    ),
    'CIFAR-100, binary': Format(
        _one('train.bin', np.minimum(noise(2, 3074), [9, 99] + 3072 * [255]).astype(np.uint8).tobytes()),
        _read_cifar(_CIFAR100, 'fine_labels', 'train'), **_reference('the bytes of each record', _cifar_payload(2, 1)),
    ),
    'CIFAR-10, pickle': Format(
        _one('test_batch', PICKLES[0]), _read_cifar(_CIFAR10, 'labels', 'test'),
        **_reference("Python's pickle with NumPy's arrays only", _cifar_pickle('labels')),
    ),
    'CIFAR-100, pickle': Format(
        _one('train', PICKLES[1]), _read_cifar(_CIFAR100, 'fine_labels', 'train'),
        **_reference("Python's pickle with NumPy's arrays only", _cifar_pickle('fine_labels')),
    ),
    'SVHN .mat': Format(
        _one('test_32x32.mat', lambda: mat_of(X=noise(32, 32, 3, 2), y=np.uint8([[1], [2]]))), _read_svhn,
        target='*.mat',
    ),
    'SVHN .mat, forged': Format(
        _one('test_32x32.mat', lambda: mat_of(X=noise(32, 32, 3, 2), y=np.uint8([[1], [2]]))), _read_svhn,
        'uint8 images of 32 x 32 x 3, each with a label of 0 to 9', _is_svhn, '*.mat', ('mat',),
    ),
    'numbers .mat': Format(
        _one('numbers.mat', lambda: mat_of(False, a=normal(2, 3), b=np.int32([[1, 2]]))),
        lambda folder: matlab.read(folder / 'numbers.mat', ('a', 'b')),
        'arrays of numbers, no larger than the file', _are_numbers,
    ),
    'meta.mat': Format(
        _one('meta.mat', lambda: meta(False)), lambda folder: labels.devkit_order(folder / 'meta.mat'),
        'different WordNet ids', _are_classes,
    ),
    'meta.mat, packed': Format(
        _one('meta.mat', lambda: meta(True)), lambda folder: labels.devkit_order(folder / 'meta.mat'),
        'different WordNet ids', _are_classes, kinds=('bytes', 'mat'),
    ),
    'statistics.npz': Format(
        _one('statistics.npz', lambda: saved(np.savez_compressed, **STATISTICS)), _read_statistics,
        kinds=('bytes', 'zip'), **_reference("NumPy's, finite", _npz_read_by_numpy),
    ),
    'label file (CSV)': Format(
        _one('labels.csv', b'file,wnid,index\na.jpg,n00000001,0\nb.jpg,n00000003,1\n'), _read_labels,
        'for each image a label in the file', _are_in_csv,
    ),
    'val_annotations.txt': Format(
        lambda: {'val_annotations.txt': _LISTED, 'images/a.jpg': b'', 'images/b.jpg': b''},
        _read_annotated, 'for each image a class in the file', _are_in_lines, '*.txt',
    ),
    'real.json': Format(
        _one('real.json', json.dumps([[1, 2], [], [999]]).encode()), _read_real, "Python's json", _is_the_json,
        kinds=('bytes', 'json'),
    ),
    # Images
    'JPEG': _image(lambda: encoded('JPEG', quality=90)),
    'JPEG, progressive': _image(lambda: encoded('JPEG', progressive=True, quality=60)),
    'JPEG, gray': _image(lambda: encoded('JPEG', 'L')),
    'JPEG, CMYK': _image(lambda: encoded('JPEG', 'CMYK')),
    'PNG': _image(lambda: encoded('PNG'), ('bytes', 'png')),
    'PNG, palette': _image(lambda: encoded('PNG', 'P'), ('bytes', 'png')),
    'PNG, 16 bits': _image(lambda: encoded('PNG', 'I;16'), ('bytes', 'png')),
    'GIF': _image(lambda: encoded('GIF', 'P')),
    'BMP': _image(lambda: encoded('BMP')),
    'TIFF': _image(lambda: encoded('TIFF')),
    'TIFF, LZW': _image(lambda: encoded('TIFF', compression='tiff_lzw')),
    'WebP': _image(lambda: encoded('WEBP', lossless=True)),
    'PPM': _image(lambda: encoded('PPM')),
}  # fmt: skip

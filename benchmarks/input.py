"""The input pipeline, compared with torchvision and tf.data: photographs to batches of 224 x 224, images per second.

Every peer crops by area (8% to 100%, 3:4 to 4:3), resizes with antialiasing, does not flip, and returns uint8 batches,
with one thread or process per core. Ours is the loader that training uses.
"""

import contextlib
import functools
import os
import statistics
import sys
import tempfile
from pathlib import Path

from benchmarks import timing
from runtime import system

BATCH, SIZE = 128, 224
IMAGES = 2048  # per turn
OURS = {  # name: (store, crop)
    'JPEG, bicubic': ('jpeg', 'bicubic'),
    'JPEG, bilinear': ('jpeg', 'bilinear'),
    'packed 256, random crop': ('pack', 'random'),
    'packed 256, area crop': ('pack', 'bicubic'),
    'raw 256, random crop': ('raw', 'random'),
    'raw 256, area crop': ('raw', 'bicubic'),
}
PEERS = {'Pillow (torchvision)': 'torchvision', 'tf.data (antialiased)': 'tensorflow'}
MEMORY = 50_000  # images for the measurement of memory


def photographs(data_dir):
    """Return the JPEG files of full-size photographs below a folder, sorted."""
    from PIL import Image

    paths = sorted(p for p in Path(data_dir).rglob('*') if p.suffix.lower() in ('.jpg', '.jpeg'))
    photos = []
    for path in paths:
        with Image.open(path) as image:
            if max(image.size) > 256 and image.format == 'JPEG':
                photos.append(path)
    if not photos:
        sys.exit(f'benchmark.py: error: no photographs below {data_dir!r}: pass --data_dir FOLDER')
    return photos


class Files:
    """A source of JPEG files."""

    name, class_names, notes = 'photographs', ('any',), ()

    def __init__(self, paths):
        self.paths = [str(path) for path in paths]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        from input_pipeline.example import Example

        return Example(Path(self.paths[index]).read_bytes(), 0, self.paths[index])


def timed_function(name):
    """Return the function that a peer's process times, a pass over `IMAGES` images.

    Args:
      name: 'PEER|FOLDER|STORES'.
    """
    name, data_dir, stores = name.split('|')
    paths = photographs(data_dir)
    if name in OURS:
        return ours(*OURS[name], paths, stores)
    return {'torchvision': torchvision_epoch, 'tensorflow': tensorflow_epoch}[PEERS[name]](paths)


def ours(store, crop, paths, stores):
    """Return a pass of our loader over the files, or over a packed store of them."""
    source, form, order = _ours(store, crop, paths, stores)
    from input_pipeline import loader

    turn = iter(range(10**9))

    def epoch():
        start = next(turn) * IMAGES
        count = 0
        for batch in loader.stream(source, form, order, IMAGES // BATCH, BATCH, start=start):
            assert batch['image'].shape == (BATCH, SIZE, SIZE, 3)
            count += BATCH
        assert count == IMAGES

    return epoch


def _ours(store, crop, paths, stores):
    from input_pipeline import crops, loader
    from input_pipeline.packed import PackedSource

    if crop == 'random':
        rule = functools.partial(crops.random_crop, size=SIZE, short_side=(256, 256))
    else:
        rule = functools.partial(crops.area_crop, size=SIZE, filter=crop)
    source = Files(paths) if store == 'jpeg' else PackedSource(os.path.join(stores, store), 'train')
    order = functools.partial(loader.example_order, num_examples=len(source), seed=0)
    return source, loader.Form(SIZE, 3, crop=rule), order


def torchvision_epoch(paths):
    """Return a pass of torchvision's transforms on Pillow images in PyTorch's DataLoader, one process per core."""
    import torch

    for operator in ('nms', 'qnms'):  # torchvision needs them, and the CPU build of PyTorch may lack them
        with contextlib.suppress(RuntimeError):
            torch.library.define(
                f'torchvision::{operator}', '(Tensor dets, Tensor scores, float iou_threshold) -> Tensor'
            )
    from PIL import Image
    from torchvision import transforms

    pipeline = transforms.Compose([transforms.RandomResizedCrop(SIZE, antialias=True), transforms.PILToTensor()])

    class Repeated(torch.utils.data.Dataset):
        def __len__(self):
            return IMAGES

        def __getitem__(self, index):
            with Image.open(paths[index % len(paths)]) as image:
                return pipeline(image.convert('RGB')), 0

    batches = torch.utils.data.DataLoader(
        Repeated(), BATCH, shuffle=True, num_workers=os.cpu_count(), persistent_workers=True, prefetch_factor=4
    )

    def epoch():
        count = 0
        for images, _ in batches:
            assert tuple(images.shape) == (BATCH, 3, SIZE, SIZE)
            count += len(images)
        assert count == IMAGES

    return epoch


def tensorflow_epoch(paths):
    """Return a pass of tf.data with the fused decode-and-crop of TensorFlow's ImageNet examples, and antialiasing."""
    os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
    import tensorflow as tf

    def load(path):
        data = tf.io.read_file(path)
        shape = tf.image.extract_jpeg_shape(data)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            shape, tf.constant([[[0.0, 0.0, 1.0, 1.0]]]), min_object_covered=0.0, aspect_ratio_range=(3 / 4, 4 / 3),
            area_range=(0.08, 1.0), max_attempts=10, use_image_if_no_bounding_boxes=True,
        )  # fmt: skip
        window = tf.stack([begin[0], begin[1], size[0], size[1]])
        image = tf.image.decode_and_crop_jpeg(data, window, channels=3)
        image = tf.image.resize(image, (SIZE, SIZE), antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)

    files = tf.data.Dataset.from_tensor_slices([str(path) for path in paths]).repeat().shuffle(1024).take(IMAGES)
    cores = os.cpu_count()
    batches = files.map(load, num_parallel_calls=cores).batch(BATCH).prefetch(4)
    options = tf.data.Options()
    options.threading.private_threadpool_size = cores
    batches = batches.with_options(options)

    def epoch():
        count = 0
        for images in batches:
            assert tuple(images.shape) == (BATCH, SIZE, SIZE, 3)
            count += BATCH
        assert count == IMAGES

    return epoch


def run(data_dir, rounds=5):
    """Yield a row for each of ours: images per second, and the ratio to each peer by rounds."""
    paths = photographs(data_dir)
    with tempfile.TemporaryDirectory() as stores:
        _pack(paths, stores)
        peers = [name for name, package in PEERS.items() if timing.version(_package(package))]
        names = [f'{name}|{data_dir}|{stores}' for name in (*OURS, *peers)]
        seconds, _ = timing.run_peers('input', names, rounds)
        seconds = {name.split('|')[0]: times for name, times in seconds.items()}
    for name in seconds:
        row = {'name': name, 'photographs': len(paths), 'images_per_second': IMAGES / statistics.median(seconds[name])}
        for peer in peers:
            ratios = [theirs / mine for theirs, mine in zip(seconds[peer], seconds[name], strict=True)]
            row[peer] = {'ratio': statistics.median(ratios), 'range': [min(ratios), max(ratios)]}
        yield row


def _package(name):
    return name if timing.version(name) else f'{name}-cpu'


def _pack(paths, stores):
    from input_pipeline import pack

    for kind in ('pack', 'raw'):
        pack.pack({'train': Files(paths)}, os.path.join(stores, kind), 256, raw=kind == 'raw')


def memory(data_dir, images=MEMORY):
    """Return the memory of the loader over many JPEG images: [(images, resident MB)], and the peak in MB."""
    from input_pipeline import loader

    source, form, order = _ours('jpeg', 'bicubic', photographs(data_dir), '')
    samples = []
    for number, _ in enumerate(loader.stream(source, form, order, images // BATCH, BATCH)):
        if (number + 1) * BATCH % 5_000 < BATCH or number == images // BATCH - 1:
            samples.append(((number + 1) * BATCH, resident()))
    return samples, system.peak_memory() / 1e6


def resident():
    """Return the resident memory of this process in MB."""
    return int(Path('/proc/self/statm').read_text().split()[1]) * os.sysconf('SC_PAGE_SIZE') / 1e6

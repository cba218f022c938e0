"""Logits of PyTorch's networks with weights computed by a rule, to compare with ours without PyTorch.

A file here is a network of torchvision or timm that is the very same as one of ours: its logits for two images, and
what to `create`. `make.py` wrote it; `tests/test_golden.py` reads it. Weights and images are not stored: both sides
fill them in by the rule below, from the name and the shape of each of our parameters.
"""

import dataclasses
import functools
import hashlib
import json
import zlib
from pathlib import Path

import jax
import numpy as np

import architectures
from architectures import layers

FOLDER = Path(__file__).parent
STATE_DICTS = FOLDER / 'state_dicts.txt'
BATCH = 2
TOLERANCE = 1e-5  # of a `disagreement`; float32 alone makes 1e-7 to 3e-6


@dataclasses.dataclass(frozen=True)
class Golden:
    """A peer's logits.

    Attributes:
      network: our name.
      options: that make ours the peer.
      image_shape: (H, W, C).
      logits: float32 [BATCH, num_classes].
      source: which peer, of which version.
    """

    network: str
    options: dict
    image_shape: tuple
    logits: np.ndarray
    source: str

    def save(self, name):
        told = {key: json.dumps(getattr(self, key)) for key in ('network', 'options', 'image_shape', 'source')}
        np.savez_compressed(FOLDER / f'{name}.npz', logits=self.logits, **told)


def names():
    """The names of the files, sorted."""
    return sorted(path.stem for path in FOLDER.glob('*.npz'))


def load(name):
    """The golden file of that name."""
    with np.load(FOLDER / f'{name}.npz') as file:
        told = {key: json.loads(str(file[key])) for key in ('network', 'options', 'source')}
        return Golden(image_shape=tuple(json.loads(str(file['image_shape']))), logits=file['logits'], **told)


def uniform(name, shape):
    """Uniform float32 in [-1, 1) of that shape, the same for the same name for ever.

    From the raw output of Philox, which NumPy promises to keep, and not from its distributions, which it does not: the
    upper 24 bits, so that every value is exact.
    """
    bits = np.random.Philox(key=zlib.crc32(name.encode())).random_raw(int(np.prod(shape))) >> np.uint64(40)
    return (bits.astype(np.float32) * np.float32(2**-23) - np.float32(1)).reshape(shape)


def fill(name, shape):
    """The value of the parameter or running statistic of that name.

    Every layer is to be felt in the logits, after 11 layers as after 264. A kernel keeps the mean square of what a ReLU
    lets through (+-sqrt(6 / fan_in)). Batch norms scale by 0.6 or so: a branch of a residual block then adds a tenth to
    the power of what it is added to, and not as much again, 50 times over. The scales are positive, for only then do
    a batch norm and a max pool exchange (timm's pre-activated ResNets have them in the other order).
    """
    value = uniform(name, shape)
    match name.rpartition('/')[2]:
        case 'kernel':
            return value * np.float32(np.sqrt(6 / np.prod(shape[:-1])))
        case 'scale':
            return np.float32(0.6) + np.float32(0.2) * value
        case 'var':
            return np.float32(1) + np.float32(0.5) * value
        case 'bias' | 'mean':
            return np.float32(0.1) * value
    raise ValueError(f'no rule for {name}')


def variables(model, image_shape):
    """The variables of one of our networks by the rule: float32 arrays of NumPy."""
    image = jax.ShapeDtypeStruct((1, *image_shape), 'float32')
    with layers.plain_forms():  # sooner traced
        shapes = jax.eval_shape(model.init, jax.random.key(0), image)
    return jax.tree_util.tree_map_with_path(lambda path, leaf: fill(name_of(path), leaf.shape), shapes)


def digest(tensors):
    """Of a state dict: its names, shapes and values, in hexadecimal."""
    sha = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        sha.update(f'{name} {value.shape} {value.dtype}\n'.encode())
        sha.update(np.ascontiguousarray(value).tobytes())
    return sha.hexdigest()


def name_of(path):
    """A key path of JAX as 'params/conv1/kernel'."""
    return '/'.join(key.key for key in path)


def images(image_shape):
    """Two images of mean 0 and variance 1: 8x8 patches, so that they differ as wholes, and noise on each pixel."""
    height, width, channels = image_shape
    patches = uniform('patches', (BATCH, 8, 8, channels)).repeat(height // 8, 1).repeat(width // 8, 2)
    noise = uniform('noise', (BATCH, height, width, channels))
    return np.float32(np.sqrt(1.5)) * (patches + noise)


def run(golden):
    """Our logits and named activations of the network that a golden file is of: NumPy arrays."""
    model = architectures.create(golden.network, **golden.options)
    forward = functools.partial(model.apply, mutable=['activations'])
    compiled = jax.jit(forward, compiler_options=layers.compiler_options())
    logits, state = compiled(variables(model, golden.image_shape), images(golden.image_shape))
    return np.asarray(logits), jax.tree.map(np.asarray, dict(state['activations']))


def disagreement(ours, theirs):
    """The largest difference, relative to the largest of their values."""
    return float(np.max(np.abs(ours - theirs)) / np.max(np.abs(theirs)))

"""A page in which one draws a digit and a LeNet (LeCun et al. 1998) classifies it; the page shows its layers.

The page is one file that works offline: it contains the weights, `draw.js` runs the network in float32, and `draw.html`
is the page around it.
"""

import base64
import string
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from architectures import lenet
from figures import markup, style
from figures.inputs import open_one
from input_pipeline import datasets
from runtime.errors import UserError
from runtime.files import write_atomically

_HERE = Path(__file__).parent

# (name on the page, name in the network) of each layer; the layers without activation are in _LINEAR.
_LAYERS = {
    'lenet5': (
        ('C1', 'conv1'), ('S2', 'pool1'), ('C3', 'conv2'), ('S4', 'pool2'), ('C5', 'fc1'), ('F6', 'fc2'),
        ('output', 'fc3'),
    ),
    'lenet5_1998': tuple((name, name) for name in ('C1', 'S2', 'C3', 'S4', 'C5', 'F6', 'output')),
    'lenet_caffe': (
        ('conv1', 'conv1'), ('pool1', 'pool1'), ('conv2', 'conv2'), ('pool2', 'pool2'), ('ip1', 'ip1'),
        ('output', 'ip2'),
    ),
}  # fmt: skip
_LINEAR = {
    'lenet5': ('pool1', 'pool2', 'fc3'),
    'lenet5_1998': ('output',),
    'lenet_caffe': ('conv1', 'pool1', 'conv2', 'pool2', 'ip2'),
}
_DIGITS = datasets.names_where(lambda data: data.box)


def make(out, config, checkpoint, step='best'):
    """Write the page.

    Args:
      out: path of the page, .html.
      config, checkpoint, step: see `figures.inputs.open_one`.

    Raises:
      UserError: if the network is not a LeNet for gray digits.
    """
    markup.check(out, 'draw')
    check(config)
    network = open_one(config, checkpoint, step)
    write_atomically(out, page(network.member, network.title).encode())


def check(config):
    """Raise UserError if the page cannot run a config's network."""
    if config.architecture not in _LAYERS:
        raise UserError(
            f'draw runs the networks for handwritten digits, {", ".join(_LAYERS)}, and not {config.architecture}'
        )
    if config.dataset not in _DIGITS or config.channels != 1:
        raise UserError(
            f'draw needs a network trained on the digits of {" or ".join(_DIGITS)}, not on {config.dataset}'
        )
    if config.test_crop.kind != 'none':
        raise UserError(f'draw needs a network that reads complete images, not crops ({config.test_crop.kind})')
    if config.architecture_options.get('batch_norm'):
        raise UserError('draw needs a LeNet without batch norm')


def page(member, title):
    """Return the page of a network (`evaluation.scoring.Member`) with a title, as HTML."""
    described = layers(member.config.architecture, member.model, jax.device_get(member.variables['params']))
    network, weights = packed({'layers': described, 'input': input_of(member.config, member.pixels)})
    colors = {'zero': style.BLACK, 'positive': style.YELLOW, 'negative': style.SKY}
    body = string.Template((_HERE / 'draw.html').read_text()).substitute(
        title=markup.text(title),
        orange=style.ORANGE,
        sky=style.SKY,
        yellow=style.YELLOW,
        network=markup.json_text(network | {'colors': colors}),
        weights=base64.b64encode(weights).decode(),
        script=(_HERE / 'draw.js').read_text(),
    )
    return style.page(f'Draw a digit: {title}', body, markup.POLICY)


def layers(architecture, model, parameters):
    """Describe the layers of a LeNet for the page.

    Args:
      architecture: its registered name.
      model: the network, whose options decide its layers.
      parameters: its parameters.

    Returns:
      [{'name': on the page, 'of': in the network, 'kind', 'activation' ('' for none), arrays}]. The kinds and their
      arrays: 'convolution' (kernel [h, w, in, out], bias), 'max_pool' (of 2x2), 'subsampling' (coefficient, bias),
      'rbf' (centers [classes, 84]); 'slope' of the activation 'prelu'.
    """
    described = []
    for title, name in _LAYERS[architecture]:
        layer = {'name': title, 'of': name, 'activation': '' if name in _LINEAR[architecture] else model.activation}
        if layer['activation'] == 'prelu':
            layer['slope'] = parameters[f'{name}_prelu']['slope']
        described.append(layer | _weights(name, model, parameters))
    return described


def _weights(name, model, parameters):
    """Return the kind of a layer, and its arrays."""
    weights = parameters.get('dense' if name == 'output' else name)
    if weights is None:
        return {'kind': 'max_pool'} if name != 'output' else {'kind': 'rbf', 'centers': lenet.BITMAPS}
    if 'coefficient' in weights:
        return {'kind': 'subsampling', **weights}
    kernel = weights['kernel']
    if name == 'C3':
        kernel = connected(kernel, model.bind({'params': parameters}).C3.table)
    if kernel.ndim == 2:
        kernel = kernel[None, None]
    return {'kind': 'convolution', 'kernel': kernel, 'bias': weights['bias']}


def connected(kernel, table):
    """Return the kernel [5, 5, connections] of a `lenet.TableConv` as [5, 5, in, out], zero without a connection."""
    dense = np.zeros((*kernel.shape[:2], 1 + max(map(max, table)), len(table)), np.float32)
    dense[:, :, np.concatenate(table), np.repeat(np.arange(len(table)), [len(row) for row in table])] = kernel
    return dense


def input_of(config, pixels):
    """Describe how a drawing becomes the network's input.

    Returns:
      {'grid', 'box': see `datasets.DataSet.box`; 'size': side of the network's input; 'fit': [size, grid], the matrix
      that resizes rows and columns from the data set's size to the network's; 'low', 'high': [size, size], the inputs
      for gray levels of 0 and 255}.
    """
    grid, box = datasets.find(config.dataset).box
    size = config.image_size
    if config.fit == 'resize':
        rows = Image.fromarray(np.eye(grid, dtype=np.float32)).resize((grid, size), Image.Resampling.BILINEAR)
        fit = np.asarray(rows)
    else:
        fit = np.eye(size, grid, -((size - grid) // 2))
    levels = np.broadcast_to(np.array([0, 255], np.uint8)[:, None, None, None], (2, size, size, 1))
    low, high = pixels.test({'image': levels, 'offset': np.zeros((2, 2), np.int32)})[..., 0]
    return {'grid': grid, 'box': box, 'size': size, 'fit': fit, 'low': low, 'high': high}


def packed(value):
    """Move the arrays out of dicts and lists: return ({..., array: {'offset', 'shape'}}, float32 bytes)."""
    blocks, end = [], 0

    def pack(leaf):
        nonlocal end
        if isinstance(leaf, dict):
            return {key: pack(inner) for key, inner in leaf.items()}
        if isinstance(leaf, list):
            return [pack(inner) for inner in leaf]
        if not isinstance(leaf, np.ndarray | jax.Array):
            return leaf
        blocks.append(np.ascontiguousarray(leaf, '<f4').tobytes())  # all machines with browsers are little-endian
        end += leaf.size
        return {'offset': end - leaf.size, 'shape': list(leaf.shape)}

    return pack(value), b''.join(blocks)

"""A page in which one draws a digit and a LeNet (LeCun et al. 1998) says which it is; its layers light up.

The page is one file: the weights lie in it, `draw.js` runs the network, `draw.html` is the page around it. It asks no
server and no network, and computes in float32.
"""

import base64
import string
from pathlib import Path

import jax
import numpy as np
from PIL import Image

from architectures import lenet
from figures import markup, style
from figures.opened import open_one
from input_pipeline import datasets
from runtime.errors import UserError
from runtime.files import write_atomically

_HERE = Path(__file__).parent

# (name on the page, the network's own) of each layer; those of a linear one are in _LINEAR.
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
    """Writes the page.

    Args:
      out: the file, .html.
      config, checkpoint, step: see `figures.opened.open_one`.

    Raises:
      UserError: the network is no LeNet for grey digits.
    """
    markup.check(out, 'draw')
    check(config)
    opened = open_one(config, checkpoint, step)
    write_atomically(out, page(opened.member, opened.title).encode())


def check(config):
    """Raises UserError where a config's network is none that the page can run."""
    if config.architecture not in _LAYERS:
        raise UserError(
            f'draw runs the networks that read handwritten digits, {", ".join(_LAYERS)}, and not {config.architecture}'
        )
    if config.dataset not in _DIGITS or config.channels != 1:
        raise UserError(
            f'draw takes a network trained on the digits of {" or ".join(_DIGITS)}, and this one knows {config.dataset}'
        )
    if config.test_crop.kind != 'none':
        raise UserError(f'draw takes a network that reads whole images, not crops ({config.test_crop.kind})')
    if config.architecture_options.get('batch_norm'):
        raise UserError('draw takes a LeNet without batch norm')


def page(member, title):
    """The page of a network (`evaluation.scoring.Member`) under a title: HTML."""
    found = layers(member.config.architecture, member.model, jax.device_get(member.variables['params']))
    network, weights = packed({'layers': found, 'input': input_of(member.config, member.pixels)})
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
    """A LeNet as the page runs it, layer by layer.

    Args:
      architecture: its registered name.
      model: the network, whose options say what its layers are.
      parameters: its.

    Returns:
      [{'name': on the page, 'of': the network's own, 'kind', 'activation' ('' for none), arrays}]. The kinds and their
      arrays: 'convolution' (kernel [h, w, in, out], bias), 'max_pool' (of 2x2), 'subsampling' (coefficient, bias),
      'rbf' (centers [classes, 84]); 'slope' of the activation 'prelu'.
    """
    found = []
    for name, own in _LAYERS[architecture]:
        layer = {'name': name, 'of': own, 'activation': '' if own in _LINEAR[architecture] else model.activation}
        if layer['activation'] == 'prelu':
            layer['slope'] = parameters[f'{own}_prelu']['slope']
        found.append(layer | _weights(own, model, parameters))
    return found


def _weights(own, model, parameters):
    """The kind of a layer, and its arrays."""
    mine = parameters.get('dense' if own == 'output' else own)
    if mine is None:
        return {'kind': 'max_pool'} if own != 'output' else {'kind': 'rbf', 'centers': lenet.BITMAPS}
    if 'coefficient' in mine:
        return {'kind': 'subsampling', **mine}
    kernel = mine['kernel']
    if own == 'C3':
        kernel = connected(kernel, model.bind({'params': parameters}).C3.table)
    if kernel.ndim == 2:
        kernel = kernel[None, None]
    return {'kind': 'convolution', 'kernel': kernel, 'bias': mine['bias']}


def connected(kernel, table):
    """The kernel [5, 5, connections] of a `lenet.TableConv` as [5, 5, in, out], zero where no connection is."""
    whole = np.zeros((*kernel.shape[:2], 1 + max(map(max, table)), len(table)), np.float32)
    whole[:, :, np.concatenate(table), np.repeat(np.arange(len(table)), [len(row) for row in table])] = kernel
    return whole


def input_of(config, pixels):
    """How a drawing becomes the network's input, as the config has it.

    Returns:
      {'grid', 'box': of `datasets.DataSet.box`; 'fit': [size, grid], which applied to rows and to columns makes an
      image of the network's size of one of the data set's; 'low', 'high': [size, size], what grey levels of 0 and 255
      become}.
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
    """A value of dicts and lists with its arrays taken out: ({..., array: {'offset', 'shape'}}, float32 bytes)."""
    blocks, end = [], 0

    def pack(leaf):
        nonlocal end
        if isinstance(leaf, dict):
            return {key: pack(inner) for key, inner in leaf.items()}
        if isinstance(leaf, list):
            return [pack(inner) for inner in leaf]
        if not isinstance(leaf, np.ndarray | jax.Array):
            return leaf
        blocks.append(np.ascontiguousarray(leaf, '<f4').tobytes())  # browsers run on little-endian machines alone
        end += leaf.size
        return {'offset': end - leaf.size, 'shape': list(leaf.shape)}

    return pack(value), b''.join(blocks)

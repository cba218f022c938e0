"""Caffe's files: the weights of a network (.caffemodel) and mean images (.binaryproto).

Both are protocol buffers. Of Caffe's schema these are the fields that hold a name or a number, by the field numbers of
its caffe.proto; the rest of a file is skipped.
"""

import functools
import math

import numpy as np

from runtime.errors import UserError, first_line

# Message: field, its number, its type. A trailing + is a repeated one.
SCHEMA = {
    'BlobShape': (('dim', 1, 'packed int64'),),
    'BlobProto': (
        *(('num', 1, 'int32'), ('channels', 2, 'int32'), ('height', 3, 'int32'), ('width', 4, 'int32')),  # before 2014
        ('data', 5, 'bytes+'),  # packed floats: their bytes, which NumPy reads a thousand times faster
        ('shape', 7, 'BlobShape'),
        ('double_data', 8, 'bytes+'),
    ),
    'LayerParameter': (('name', 1, 'string'), ('type', 2, 'string'), ('blobs', 7, 'BlobProto+')),
    'V0LayerParameter': (('name', 1, 'string'), ('type', 2, 'string'), ('blobs', 50, 'BlobProto+')),  # of 2013
    'V1LayerParameter': (('layer', 1, 'V0LayerParameter'), ('name', 4, 'string'), ('blobs', 6, 'BlobProto+')),  # 2014
    'NetParameter': (('name', 1, 'string'), ('layers', 2, 'V1LayerParameter+'), ('layer', 100, 'LayerParameter+')),
}


@functools.cache
def messages():
    """{name: class} of the messages of SCHEMA."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name='caffe_weights.proto', package='caffe', syntax='proto2')
    for name, fields in SCHEMA.items():
        message = file.message_type.add(name=name)
        for field, number, kind in fields:
            kind, packed = kind.removeprefix('packed '), kind.startswith('packed ')
            kind, repeated = kind.removesuffix('+'), kind.endswith('+') or packed
            added = message.field.add(name=field, number=number)
            added.label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            if kind in SCHEMA:
                added.type, added.type_name = field_type.TYPE_MESSAGE, f'.caffe.{kind}'
            else:
                added.type = getattr(field_type, f'TYPE_{kind.upper()}')
            added.options.packed = packed
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f'caffe.{name}')) for name in SCHEMA}


def _parse(kind, path):
    from google.protobuf.message import DecodeError

    with open(path, 'rb') as file:
        content = file.read()
    try:
        return messages()[kind].FromString(content)
    except DecodeError as error:
        raise UserError(f'{path} is truncated, or no file of Caffe ({first_line(error)})') from None


def read_net(path):
    """{'LAYER/weights', 'LAYER/bias', 'LAYER/mean', 'LAYER/var': array} of a .caffemodel, in Caffe's layouts.

    The current form and both older ones (V1 of 2014, V0 of 2013). A BatchNorm layer holds sums, and a factor that they
    were scaled by: here they are divided by it. A BN layer (of forks) holds scale, shift, mean and variance.

    Raises:
      UserError: no such file, or one without weights.
    """
    net = _parse('NetParameter', path)
    layers = [layer.layer if layer.HasField('layer') else layer for layer in net.layers] + list(net.layer)
    tensors = {}
    for layer in layers:
        blobs = [_array(blob, f'{path}: layer {layer.name}') for blob in layer.blobs]
        kind = getattr(layer, 'type', '')
        if not blobs:
            continue
        if kind == 'BatchNorm':
            if len(blobs) == 3:
                factor = blobs.pop().item()
                blobs = [blob / factor if factor else blob * 0 for blob in blobs]
            leaves = ('mean', 'var')
        elif kind in ('BN', 'bn'):
            leaves = ('weights', 'bias', 'mean', 'var')
        else:
            leaves = ('weights', 'bias')
        if len(blobs) > len(leaves):
            raise UserError(
                f'{path}: layer {layer.name} ({kind}) has {len(blobs)} arrays, more than one is known to have'
            )
        for leaf, blob in zip(leaves, blobs, strict=False):
            tensors[f'{layer.name}/{leaf}'] = blob
    if not tensors:
        raise UserError(f'{path} is no .caffemodel, or one without weights: it has no layer with numbers')
    return tensors


def read_mean(path):
    """The mean image of a .binaryproto: float32 [H, W, 3], channels in Caffe's order: blue, green, red."""
    mean = _array(_parse('BlobProto', path), path)
    mean = mean.reshape(mean.shape[-3:])
    if mean.ndim != 3 or mean.shape[0] != 3:
        raise UserError(f'{path} is no mean image of three channels: its shape is {mean.shape}')
    return mean.transpose(1, 2, 0)


def _array(blob, where):
    """A blob as float32; of the older form, which knows four sizes, leading ones are left out of bias and matrix."""
    data, dtype = (blob.data, '<f4') if blob.data else (blob.double_data, '<f8')
    joined = b''.join(data)
    old = not blob.HasField('shape')
    shape = (blob.num, blob.channels, blob.height, blob.width) if old else tuple(blob.shape.dim)
    if len(joined) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise UserError(
            f'{where} should have {math.prod(shape)} numbers, of shape {shape}, and has {len(joined)} bytes'
        )
    if old and shape[:2] == (1, 1):
        shape = shape[3:] if shape[2] == 1 else shape[2:]
    return np.frombuffer(joined, dtype).astype(np.float32).reshape(shape)

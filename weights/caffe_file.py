"""Caffe's files: weights of a network (.caffemodel) and mean images (.binaryproto).

Both are protocol buffers. The schema here has the names and numbers of Caffe's caffe.proto; other fields are skipped.
"""

import functools
import math

import numpy as np

from runtime import foreign
from runtime.errors import UserError

# {message: (field, its number, its type)}; a trailing + marks a repeated field.
SCHEMA = {
    'BlobShape': (('dim', 1, 'packed int64'),),
    'BlobProto': (
        *(('num', 1, 'int32'), ('channels', 2, 'int32'), ('height', 3, 'int32'), ('width', 4, 'int32')),  # before 2014
        ('data', 5, 'bytes+'),  # packed floats, read as bytes: NumPy converts them a thousand times faster
        ('shape', 7, 'BlobShape'),
        ('double_data', 8, 'bytes+'),
    ),
    'LayerParameter': (('name', 1, 'string'), ('type', 2, 'string'), ('blobs', 7, 'BlobProto+')),
    'V0LayerParameter': (('name', 1, 'string'), ('type', 2, 'string'), ('blobs', 50, 'BlobProto+')),  # 2013
    'V1LayerParameter': (('layer', 1, 'V0LayerParameter'), ('name', 4, 'string'), ('blobs', 6, 'BlobProto+')),  # 2014
    'NetParameter': (('name', 1, 'string'), ('layers', 2, 'V1LayerParameter+'), ('layer', 100, 'LayerParameter+')),
}


_LARGEST = 2 << 30  # bytes of a message of protobuf


@functools.cache
def messages():
    """Return {name: class} of the messages of SCHEMA."""
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
    return messages()[kind].FromString(foreign.read_regular(path, _LARGEST))


def read_net(path):
    """Read {'LAYER/weights', 'LAYER/bias', 'LAYER/mean', 'LAYER/var': array} from a .caffemodel, in Caffe's layouts.

    Both the current format and the older V1 (2014) and V0 (2013) are read. A BatchNorm layer stores scaled statistics
    and the scale factor; they are divided by it here. A BN layer (of forks) stores scale, shift, mean and variance.

    Raises:
      UserError: the file is missing or invalid, or has no weights.
    """
    with foreign.parsing(path, 'a Caffe file'), np.errstate(all='ignore'):
        return _tensors(_parse('NetParameter', path), path)


def _tensors(net, path):
    layers = [layer.layer if layer.HasField('layer') else layer for layer in net.layers] + list(net.layer)
    tensors = []
    for layer in layers:
        blobs = [_array(blob, f'{path}: layer {layer.name}') for blob in layer.blobs]
        kind = getattr(layer, 'type', '')
        if not blobs:
            continue
        if kind == 'BatchNorm':
            if len(blobs) == 3:
                factor = blobs.pop()
                if factor.size != 1 or not np.isfinite(factor).all():
                    raise UserError(f'{path}: layer {layer.name} needs one finite factor, and has {factor.size} values')
                factor = factor.item()
                blobs = [blob / factor if factor else blob * 0 for blob in blobs]
            leaves = ('mean', 'var')
        elif kind in ('BN', 'bn'):
            leaves = ('weights', 'bias', 'mean', 'var')
        else:
            leaves = ('weights', 'bias')
        if len(blobs) > len(leaves):
            raise UserError(
                f'{path}: layer {layer.name} ({kind}) has {len(blobs)} arrays, more than the {len(leaves)} expected'
            )
        tensors += [(f'{layer.name}/{leaf}', blob) for leaf, blob in zip(leaves, blobs, strict=False)]
    if not tensors:
        raise UserError(f'{path} is not a .caffemodel, or has no weights')
    return foreign.unique(tensors)


def read_mean(path):
    """Read the mean image of a .binaryproto: float32 [H, W, 3], with Caffe's channels: blue, green, red."""
    with foreign.parsing(path, 'a Caffe file'):
        mean = _array(_parse('BlobProto', path), path)
        mean = mean.reshape(mean.shape[-3:])
    if not np.isfinite(mean).all():
        raise UserError(f'{path} has NaN or infinite values: the file is damaged')
    if mean.ndim != 3 or mean.shape[0] != 3:
        raise UserError(f'{path} is not a mean image of three channels: its shape is {mean.shape}')
    return mean.transpose(1, 2, 0)


def _array(blob, where):
    """Return a blob as float32; the old format has four sizes, of which a bias or matrix drops the leading ones."""
    data, dtype = (blob.data, '<f4') if blob.data else (blob.double_data, '<f8')
    content = b''.join(data)
    is_old = not blob.HasField('shape')
    shape = foreign.shape_of((blob.num, blob.channels, blob.height, blob.width) if is_old else list(blob.shape.dim))
    if len(content) != math.prod(shape) * np.dtype(dtype).itemsize:
        raise UserError(
            f'{where} should have {math.prod(shape)} numbers, of shape {shape}, but has {len(content)} bytes'
        )
    if is_old and shape[:2] == (1, 1):
        shape = shape[3:] if shape[2] == 1 else shape[2:]
    return np.frombuffer(content, dtype).astype(np.float32).reshape(shape)

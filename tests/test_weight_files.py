"""Files of other programs, valid and damaged."""

import argparse
import collections
import datetime
import io
import json
import os
import pickle
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from foreign_files import HEADER, TORCH, blob, caffemodel, npz, safetensors_file

from runtime.errors import UserError
from weights import caffe_file, files, torch_file

FORMS = ('zip', 'legacy')


@pytest.mark.parametrize('form', FORMS)
def test_tensors_of_torch_save(form):
    found = torch_file.read(TORCH / f'tensors_{form}.pth')
    view = np.arange(4, 16, dtype=np.float32).reshape(3, 4)
    np.testing.assert_array_equal(found['plain.weight'], np.arange(6, dtype=np.float32).reshape(2, 3))
    np.testing.assert_array_equal(found['view.weight'], view.T)
    np.testing.assert_array_equal(found['same.weight'], view)
    assert found['half.weight'].dtype == np.float16 and found['double.weight'].dtype == np.float64
    np.testing.assert_array_equal(found['bfloat16.weight'].astype(np.float32), [0.5, -1.5])
    assert found['norm.num_batches_tracked'].shape == () and found['empty.weight'].shape == (0, 3)


@pytest.mark.parametrize('form', FORMS)
def test_narrow_tensors_become_float32_and_counters_are_left_out(form):
    found = files.read(TORCH / f'tensors_{form}.pth')
    assert {value.dtype for value in found.tensors.values()} == {np.dtype('float32')}
    assert 'norm.num_batches_tracked' not in found.tensors
    assert found.notes == ('tensors of bfloat16, float16, float64 are converted to float32',)


@pytest.mark.parametrize('form', FORMS)
def test_a_checkpoint_around_the_state_dict_is_unwrapped(form):
    found = files.read(TORCH / f'checkpoint_{form}.pth')
    assert list(found.tensors) == ['0.weight', '0.bias', '1.weight', '1.bias', '1.running_mean', '1.running_var']
    np.testing.assert_array_equal(found.tensors['1.running_var'], np.full(3, 5, np.float32))
    assert found.notes == ("the state dict is 'state_dict' of the checkpoint",)


def test_wrappers_and_prefixes(tmp_path):
    tensors = {'module.a': np.ones(2, np.float32), 'module.b': np.ones(3, np.float32)}
    np.savez(tmp_path / 'prefixed.npz', **tensors)
    found = files.read(tmp_path / 'prefixed.npz')
    assert list(found.tensors) == ['a', 'b'] and found.notes == ("the prefix 'module.' is removed",)
    old = {'features.denseblock1.denselayer1.norm.1.weight': np.ones(2, np.float32)}
    np.savez(tmp_path / 'old.npz', **old)
    assert list(files.read(tmp_path / 'old.npz').tensors) == ['features.denseblock1.denselayer1.norm1.weight']


def test_safetensors(tmp_path):
    from safetensors.numpy import save_file

    save_file({'a': np.arange(3, dtype=np.float32)}, tmp_path / 'x.safetensors', metadata={'license': 'CC0'})
    found = files.read(tmp_path / 'x.safetensors')
    np.testing.assert_array_equal(found.tensors['a'], [0, 1, 2])
    assert found.metadata == {'license': 'CC0'}


# Programs, bombs, fragments


class Program:
    """A pickle that would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def as_torch(path, program):
    """A file such as torch.save writes, with this pickle in it."""
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('x/data.pkl', program)
    return path


@pytest.mark.parametrize('protocol', [2, 4])
def test_a_program_in_a_pickle_is_refused_by_name_and_not_run(tmp_path, protocol):
    path = as_torch(tmp_path / 'x.pth', pickle.dumps({'a': Program(tmp_path / 'made')}, protocol))
    with pytest.raises(UserError, match=r"'a' is posix\.mkdir, not a tensor; nothing was executed"):
        files.read(path)
    assert not (tmp_path / 'made').exists()
    path = as_torch(tmp_path / 'y.pth', pickle.dumps(Program(tmp_path / 'made'), protocol))
    with pytest.raises(UserError, match=r'holds posix\.mkdir, not a state dict; nothing was executed'):
        files.read(path)
    assert not (tmp_path / 'made').exists()


def test_a_pickled_module_is_refused_by_name():
    with pytest.raises(UserError, match=r'holds torch\.nn\.modules\.container\.Sequential, not a state dict'):
        files.read(TORCH / 'module.pth')


def test_arguments_beside_the_weights_are_skipped_by_name():
    found = files.read(TORCH / 'namespace.pth')
    assert len(found.tensors) == 6 and found.tensors['1.running_var'].tolist() == [5, 5, 5]
    assert found.notes[1] == 'skipped without executing it: args (argparse.Namespace)'


class Settings(dict):
    """Of a class of the program's own."""


@pytest.mark.parametrize('protocol', [2, 4])
@pytest.mark.parametrize(
    'value, name',
    [
        (argparse.Namespace(lr=0.1, betas=(0.9, 0.999), seen={1, 2}, kept=frozenset([3])), 'argparse.Namespace'),
        (np.float64(0.5), r'numpy\..*multiarray.scalar'),
        (np.arange(3), r'numpy\..*multiarray._reconstruct'),
        (Path('/a'), r'pathlib.*PosixPath'),
        (Settings(lr=[0.1]), 'Settings'),
        (collections.Counter(a=1), 'collections.Counter'),
        (datetime.date(2020, 1, 1), 'datetime.date'),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, str) else '',
)
def test_any_object_beside_the_weights_is_skipped_by_name(tmp_path, protocol, value, name):
    with zipfile.ZipFile(TORCH / 'checkpoint_zip.pth') as old, zipfile.ZipFile(tmp_path / 'x.ckpt', 'w') as new:
        for info in old.infolist():
            data = old.read(info)
            if info.filename.endswith('/data.pkl'):  # {'args': value, **checkpoint}, as one program
                own = pickle.dumps(value, protocol)[2:-1]
                assert data[:3] == b'\x80\x02}'
                data = data[:-1] + b'X\x04\0\0\0args' + own + b's.'
            new.writestr(info.filename, data)
    found = files.read(tmp_path / 'x.ckpt')
    assert list(found.tensors) == ['0.weight', '0.bias', '1.weight', '1.bias', '1.running_mean', '1.running_var']
    assert re.fullmatch(rf'skipped without executing it: args \(.*{name}.*\)', found.notes[1])


@pytest.mark.parametrize('prefix', ['_orig_mod.', '_orig_mod.module.', 'module.module.', 'model.', 'model._orig_mod.'])
def test_every_prefix_of_a_wrapper_is_taken_off(tmp_path, prefix):
    np.savez(tmp_path / 'x.npz', **{f'{prefix}{name}': np.ones(2, np.float32) for name in ('features.0', 'fc')})
    found = files.read(tmp_path / 'x.npz')
    assert list(found.tensors) == ['features.0', 'fc'] and found.notes == (f'the prefix {prefix!r} is removed',)


def test_what_is_next_to_a_prefix_is_left_out_by_name(tmp_path):
    """torch's AveragedModel counts beside `module.`; Lightning saves the state of losses beside `model.`."""
    for prefix, beside in (('module.', 'n_averaged'), ('model.', 'loss_fn.weight')):
        tensors = {beside: np.ones(2, np.float32), f'{prefix}fc': np.ones(2, np.float32)}
        np.savez(tmp_path / 'x.npz', **tensors)
        found = files.read(tmp_path / 'x.npz')
        assert list(found.tensors) == ['fc'] and found.notes == (
            f'the prefix {prefix!r} is removed; left out: {beside}',
        )


def test_a_pointer_of_git_lfs_is_called_that(tmp_path):
    pointer = 'version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n'
    for suffix in ('.safetensors', '.pth', '.npz', '.caffemodel', '.ckpt'):
        (tmp_path / f'x{suffix}').write_text(pointer)
        with pytest.raises(UserError, match='is a Git LFS pointer, not the file'):
            files.read(tmp_path / f'x{suffix}')


def test_an_array_of_objects_is_refused(tmp_path):
    np.savez(tmp_path / 'x.npz', a=np.array([Program(tmp_path / 'made')], object))
    with pytest.raises(UserError, match='array of Python objects, a pickle'):
        files.read(tmp_path / 'x.npz')
    assert not (tmp_path / 'made').exists()


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    np.savez_compressed(tmp_path / 'x.npz', a=np.zeros(25_000_000, np.float32))
    with pytest.raises(UserError, match='would unpack to 95 MiB, more than 20 times its size'):
        files.read(tmp_path / 'x.npz')
    with zipfile.ZipFile(tmp_path / 'x.pth', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('x/data.pkl', pickle.dumps({}, 2))
        archive.writestr('x/data/0', bytes(1_000_000))
    with pytest.raises(UserError, match='compressed, which torch.save never does'):
        files.read(tmp_path / 'x.pth')


def test_a_header_that_claims_more_than_there_is(tmp_path):
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(buffer, {'descr': '<f4', 'fortran_order': False, 'shape': (10**6, 10**6)})
    with zipfile.ZipFile(tmp_path / 'x.npz', 'w') as archive:
        archive.writestr('a.npy', buffer.getvalue())
    with pytest.raises(UserError, match='claims 1000000000000 numbers, more than the archive has'):
        files.read(tmp_path / 'x.npz')


@pytest.mark.parametrize('name', [f'{kind}_{form}.pth' for kind in ('tensors', 'checkpoint') for form in FORMS])
@pytest.mark.parametrize('part', [0.02, 0.3, 0.6, 0.95])
def test_truncated_files_of_torch(tmp_path, name, part):
    whole = (TORCH / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(part * len(whole))])
    with pytest.raises(UserError, match='not a torch.save file'):
        files.read(tmp_path / name)


@pytest.mark.parametrize('suffix', ['.npz', '.safetensors', '.caffemodel', '.pth'])
def test_files_that_are_something_else(tmp_path, suffix):
    path = tmp_path / f'x{suffix}'
    path.write_bytes(b'<html>not found</html>')
    with pytest.raises(UserError, match='not an? .*file'):
        files.read(path)
    path.write_bytes(b'')
    with pytest.raises(UserError):
        files.read(path)


def test_other_errors(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        files.read(tmp_path / 'none.pth')
    with pytest.raises(UserError, match='is a folder'):
        files.read(tmp_path)
    (tmp_path / 'x.h5').write_bytes(b'x')
    with pytest.raises(UserError, match='cannot read .h5; known: .safetensors'):
        files.read(tmp_path / 'x.h5')
    np.savez(tmp_path / 'nan.npz', a=np.array([np.nan]))
    with pytest.raises(UserError, match='a has NaN or infinite values'):
        files.read(tmp_path / 'nan.npz')


# Caffe


def test_the_three_forms_of_caffemodel(tmp_path):
    messages = caffe_file.messages()
    weight, bias = np.arange(6), np.array([7, 8])
    new, v1, v0 = (messages['NetParameter'](name=name) for name in ('new', 'v1', 'v0'))
    layer = new.layer.add(name='ip', type='InnerProduct')
    blob(layer.blobs.add(), weight, (2, 3))
    blob(layer.blobs.add(), bias, (2,))
    for layer in (v1.layers.add(name='ip'), v0.layers.add().layer):
        layer.name = 'ip'
        blob(layer.blobs.add(), weight, (1, 1, 2, 3), old=True)
        blob(layer.blobs.add(), bias, (1, 1, 1, 2), old=True)
    for net in (new, v1, v0):
        (tmp_path / 'x.caffemodel').write_bytes(net.SerializeToString())
        found = files.read(tmp_path / 'x.caffemodel').tensors
        np.testing.assert_array_equal(found['ip/weights'], weight.reshape(2, 3))
        np.testing.assert_array_equal(found['ip/bias'], bias)


def test_batch_norm_of_caffe_is_divided_by_its_factor(tmp_path):
    net = caffe_file.messages()['NetParameter']()
    layer = net.layer.add(name='bn', type='BatchNorm')
    for values in ([2.0, 4.0], [6.0, 8.0]):
        blob(layer.blobs.add(), values, (2,))
    blob(layer.blobs.add(), [4.0], (1,))
    (tmp_path / 'x.caffemodel').write_bytes(net.SerializeToString())
    found = files.read(tmp_path / 'x.caffemodel').tensors
    np.testing.assert_array_equal(found['bn/mean'], [0.5, 1])
    np.testing.assert_array_equal(found['bn/var'], [1.5, 2])


def test_mean_image(tmp_path):
    image = np.arange(3 * 4 * 5, dtype=np.float32).reshape(1, 3, 4, 5)
    message = caffe_file.messages()['BlobProto']()
    blob(message, image, image.shape, old=True)
    (tmp_path / 'mean.binaryproto').write_bytes(message.SerializeToString())
    np.testing.assert_array_equal(caffe_file.read_mean(tmp_path / 'mean.binaryproto'), image[0].transpose(1, 2, 0))


def test_truncated_caffemodel(tmp_path):
    net = caffe_file.messages()['NetParameter']()
    blob(net.layer.add(name='ip', type='InnerProduct').blobs.add(), np.arange(100), (10, 10))
    whole = net.SerializeToString()
    (tmp_path / 'x.caffemodel').write_bytes(whole[:200])
    with pytest.raises(UserError, match='not a Caffe file that can be read'):
        files.read(tmp_path / 'x.caffemodel')


# Damage


def refuses(path, content, says):
    path.write_bytes(content)
    with pytest.raises(UserError, match=says):
        files.read(path)


@pytest.mark.filterwarnings('ignore:Duplicate name')
def test_names_that_occur_twice_are_refused(tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w') as archive, zipfile.ZipFile(io.BytesIO(npz())) as whole:
        for _ in range(2):
            archive.writestr('a.npy', whole.read('a.npy'))
    refuses(tmp_path / 'x.npz', packed.getvalue(), "'a' occurs twice")
    refuses(tmp_path / 'x.caffemodel', 2 * caffemodel(), "'bn/mean' occurs twice")
    entry = json.dumps(HEADER['a'])
    refuses(
        tmp_path / 'x.safetensors', safetensors_file(f'{{"a": {entry}, "a": {entry}}}'.encode(), bytes(24)), 'twice'
    )


def tensor_program(count=1, shape=(2,), kind='FloatStorage', numbers=100_000):
    """A pickle of many tensors on one storage."""
    axes = b''.join(b'\x8a\x09' + struct.pack('<q', size) + b'\0' for size in shape)
    strides = b'K\x01' * len(shape)
    storage = b'((X\x07\0\0\0storagectorch\n' + kind.encode() + b'\nX\x01\0\0\x000X\x03\0\0\0cpuJ'
    tensor = storage + struct.pack('<i', numbers) + b'tQK\0(' + axes + b't(' + strides + b't\x89}t'
    named = (b'X\x04\0\0\0%04dctorch._utils\n_rebuild_tensor_v2\n' % number + tensor + b'Rs' for number in range(count))
    return b'\x80\x02}' + b''.join(named) + b'.'


def torch_archive(program, data=b''):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, 'w') as archive:
        archive.writestr('x/data.pkl', program)
        archive.writestr('x/data/0', data)
    return packed.getvalue()


@pytest.mark.parametrize(
    'program, says',
    [
        (tensor_program(shape=(1,) * 33), 'more than 32 axes'),
        (tensor_program(shape=(0, 2**62)), 'a size that is not a whole number'),
        (tensor_program(shape=(-1,)), 'a size that is not a whole number'),
        (b'\x80\x02}q\0X\x0a\0\0\0state_dicth\0s.', 'nested too deeply'),
        (b'\x80\x02' + b'(' * 3000 + b't' * 3000 + b'.', 'nested too deeply'),
        (b'\x80\x02)q\x01' + b'h\x01h\x01\x86q\x01' * 60 + b'.', 'holds a tuple, not a state dict'),
        (
            b'\x80\x02]q\0('
            + b''.join(b'M' + struct.pack('<H', key) + b'N\x86' for key in range(900))
            + b'e0'
            + b'ccollections\nOrderedDict\nh\0\x85R0' * 90
            + b'N.',
            'more memory than the file',
        ),
        (b'\x80\x02}(X\x01\0\0\0aK\0X\x01\0\0\0aK\0u.', 'a key twice'),
    ],
)
def test_structure_of_a_pickle(tmp_path, program, says):
    refuses(tmp_path / 'x.pth', torch_archive(program, bytes(400_000)), says)


def test_memory_is_bounded_by_the_file(tmp_path):
    """3,000 float16 tensors of 100,000 numbers on one storage of 200 kB."""
    program = tensor_program(3000, (100_000,), 'HalfStorage')
    tracemalloc.start()
    refuses(tmp_path / 'x.pth', torch_archive(program, bytes(200_000)), 'would unpack to 1,144 MiB')
    assert tracemalloc.get_traced_memory()[1] < 64 << 20
    tracemalloc.stop()


def test_a_batch_norm_of_caffe_has_one_finite_factor(tmp_path):
    for factor in ([4.0, 4.0], [np.inf], [np.nan]):
        net = caffe_file.messages()['NetParameter']()
        layer = net.layer.add(name='bn', type='BatchNorm')
        for values in ([2.0, 4.0], [6.0, 8.0], factor):
            blob(layer.blobs.add(), values, (len(values),))
        refuses(tmp_path / 'x.caffemodel', net.SerializeToString(), 'layer bn needs one finite factor')


@pytest.mark.parametrize('suffix', ['.npz', '.pth', '.safetensors', '.caffemodel'])
def test_only_regular_files_are_read(tmp_path, suffix):
    os.mkfifo(tmp_path / f'x{suffix}')
    with pytest.raises(UserError, match='is a FIFO, not a regular file'):
        files.read(tmp_path / f'x{suffix}')

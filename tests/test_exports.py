"""Exports are opened and run before they are done; weights that no network can have are refused by name."""

import re

import golden
import jax
import numpy as np
import onnx
import pytest
from conftest import quarter

import architectures
import weights
from architectures import layers
from input_pipeline.pixels import Pixels
from runtime import stored_config
from runtime.errors import UserError
from weights import convert, exporting, layout, onnx_file, passport
from weights.releases import RELEASES


def exported(digits_run, out, to, **options):
    config = stored_config.get_config(str(digits_run[1]))
    config.dtype = options.pop('dtype', 'float32')
    config.architecture_options.update(options)
    return weights.export(config, digits_run[1], 'latest', to, out, 'ours' if to == 'safetensors' else '')


@pytest.mark.parametrize('to', exporting.FORMATS)
@pytest.mark.parametrize('options', [{'dtype': 'bfloat16'}, {'param_dtype': 'bfloat16'}], ids=str)
def test_a_network_in_bfloat16_is_exported_in_float32(digits_run, tmp_path, to, options):
    notes = exported(digits_run, tmp_path / 'out', to, **options)
    assert notes[0] == 'bfloat16 is converted to float32'
    if to == 'onnx':
        model = onnx.load(tmp_path / 'out' / 'model.onnx')
        onnx.checker.check_model(model, full_check=True)
        assert {tensor.data_type for tensor in model.graph.initializer} <= {
            onnx.TensorProto.FLOAT, onnx.TensorProto.INT64, onnx.TensorProto.BOOL
        }  # fmt: skip


def spoiled(variables):
    return jax.tree.map(lambda x: x * np.float32(1.01), variables)


@pytest.mark.parametrize('to', exporting.FORMATS)
def test_a_file_that_answers_otherwise_is_not_left(digits_run, tmp_path, monkeypatch, to):
    writer, reader = exporting.FORMATS[to]

    def write(out, config, model, variables, card, by):
        return writer(out, config, model, spoiled(variables), card, by)

    monkeypatch.setitem(exporting.FORMATS, to, (write, reader))
    with pytest.raises(UserError, match=f'the {to} file computes other logits than the network'):
        exported(digits_run, tmp_path / 'out', to)
    assert list(tmp_path.iterdir()) == []


def test_an_onnx_file_that_the_runtime_refuses_is_not_left(digits_run, tmp_path, monkeypatch):
    monkeypatch.setattr(onnx_file, 'write', lambda path, *_: path.write_bytes(b'no graph'))
    with pytest.raises(UserError, match='the onnx file cannot be opened'):
        exported(digits_run, tmp_path / 'out', 'onnx')
    assert list(tmp_path.iterdir()) == []


def tensors_of_resnet20():
    """A state dict of akamaster's ResNet-20, filled."""
    (release,) = RELEASES['resnet20']
    variables = golden.variables(architectures.create('resnet20', **release.options), (32, 32, 3))
    return exporting.state_dict('resnet20', None, variables, release), release


def test_a_negative_running_variance_is_refused_by_its_name():
    tensors, release = tensors_of_resnet20()
    name = layout.torch_name(('batch_stats', 'stage2', 'block1', 'conv1_bn', 'var'), release.table)
    tensors[name] = tensors[name].copy()
    tensors[name][3] = -0.25
    with pytest.raises(UserError, match=rf'^{re.escape(name)}, a running variance, has a negative value .-0.25.'):
        convert.convert({k: v for k, v in tensors.items() if not k.endswith('tracked')}, 'resnet20')


def test_weights_too_large_for_float32_make_no_passport(digits_run):
    config = stored_config.get_config(str(digits_run[1]))
    model = architectures.create('lenet5')
    variables = jax.tree.map(lambda x: x * np.float32(1e20), golden.variables(model, (32, 32, 1)))
    with pytest.raises(UserError, match='has NaN or infinite activations in .*logits'):
        passport.make(config, model, variables, Pixels(config), {'file': 'x', 'name': 'x'})


@pytest.mark.parametrize(
    'name, options, size, any_size',
    [
        ('resnet20', {'depth': 8}, 32, True),
        ('resnet20', {'depth': 8, 'shortcut': 'C'}, 32, True),
        ('lenet5', {}, 32, False),
        pytest.param('googlenet', {}, 64, True, marks=pytest.mark.slow),
    ],
)
def test_an_onnx_file_takes_any_size_if_the_network_does(tmp_path, monkeypatch, name, options, size, any_size):
    if name == 'googlenet':
        quarter(monkeypatch)
    runtime = pytest.importorskip('onnxruntime')
    model = architectures.create(name, num_classes=3, **options)
    channels = 1 if name == 'lenet5' else 3
    variables = golden.variables(model, (size, size, channels))
    with layers.plain_forms():
        path = tmp_path / 'm.onnx'
        assert onnx_file.write(path, exporting.forward(model, variables), (size, size, channels), name) is any_size
    session = runtime.InferenceSession(path, providers=['CPUExecutionProvider'])
    sizes = [(size, size), (size + 5, size + 14), (size + 3, size)] if any_size else [(size, size)]
    for rows, columns in sizes:
        images = np.random.default_rng(0).normal(size=(2, rows, columns, channels)).astype(np.float32)
        expected = jax.jit(model.apply)(variables, images)
        np.testing.assert_allclose(session.run(None, {'images': images})[0], expected, rtol=1e-3, atol=1e-3)

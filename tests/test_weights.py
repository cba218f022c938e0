"""Published weights as ours, and ours as others'."""

import json
import shutil

import chex
import golden
import jax
import numpy as np
import pytest
from conftest import quarter, quickly
from flax import traverse_util

import architectures
import weights
from architectures import catalogue
from input_pipeline.pixels import Pixels
from runtime import stored_config
from runtime.errors import UserError
from training import checkpoints, init_from
from weights import convert, exporting, layout, passport
from weights.releases import RELEASES

# One of a family; the others are of the same tables, at other depths and widths.
QUICK = {'lenet_caffe', 'googlenet', 'bn_inception', 'resnet18', 'resnet20', 'resnet50', 'densenet121', 'se_resnet50'}
EACH = [
    pytest.param(
        arch, release, id=f'{arch}-{release.by}-{release.theirs}', marks=() if arch in QUICK else pytest.mark.slow
    )
    for arch, releases in RELEASES.items()
    for release in releases
]


def filled(arch, release, **options):
    """Our variables of a release's network by the rule of the golden files, and the network."""
    model = architectures.create(arch, **(release.options | options))
    return quickly(lambda: golden.variables(model, convert.input_shape(release))), model


def as_caffe(names, variables, release):
    """What `caffe_file.read_net` would find in their file."""
    flat = traverse_util.flatten_dict(variables)
    tensors = {}
    for path, (name, shape, _) in names.items():
        value = flat[path]
        if path == ('params', release.first, 'kernel') and release.reads_bgr:
            value = layout.swap_channels(value)
        tensors[name] = layout.to_theirs(value, shape)
    return tensors


def tensors_of(arch, release, variables, model, counters=False):
    """{their name: array}, float32, as `files.read` gives them; with PyTorch's counters of batches if asked for."""
    if release.is_caffe:
        return as_caffe(convert.their_names(arch, release, model.num_classes), variables, release)
    tensors = exporting.state_dict(arch, model, variables, release)
    return {name: value for name, value in tensors.items() if counters or not name.endswith('num_batches_tracked')}


def recorded():
    """Of `state_dicts.txt`, {(arch, by, theirs): (number of tensors, digest)}."""
    rows = [line.split() for line in golden.STATE_DICTS.read_text().splitlines() if not line.startswith('#')]
    return {tuple(row[:3]): (int(row[3]), row[4]) for row in rows}


@pytest.mark.parametrize('arch, release', EACH)
def test_every_release_converts_and_exports_bit_for_bit(arch, release):
    """And of torchvision's and timm's, the state dict is the one that their own classes held after
    load_state_dict(strict=True): names, shapes and values."""
    variables, model = filled(arch, release)
    tensors = tensors_of(arch, release, variables, model, counters=True)
    floats = {name: value for name, value in tensors.items() if value.dtype == np.float32}
    found = quickly(lambda: convert.convert(floats, arch, release.by))
    assert found.num_classes == catalogue.NETWORKS[arch].num_classes and not found.bgr
    assert found.release is release or release.theirs.startswith('vgg')  # with or without batch norm, by its names
    found_variables = {key: tree for key, tree in found.variables.items() if tree}
    chex.assert_trees_all_equal_shapes_and_dtypes(found_variables, variables)
    assert jax.tree.all(jax.tree.map(np.array_equal, found_variables, variables))  # chex takes ten times as long
    if release.by in ('torchvision', 'timm', 'timm_legacy'):
        assert (len(tensors), golden.digest(tensors)) == recorded()[arch, release.by, release.theirs]


def test_golden_logits_are_of_the_same_networks():
    """What converts to the variables of a golden file answers as PyTorch did: `test_golden.py` runs those."""
    compared = 0
    for name in golden.names():
        stored = golden.load(name)
        for release in RELEASES.get(stored.network, ()):
            library = release.by.removesuffix('_legacy')
            if stored.source.startswith(f'{library} {release.theirs};'):
                assert release.options == stored.options, (name, release)
                compared += 1
    assert compared >= 25


# Facts of the authors' Caffe files

CAFFE_LAYERS = {  # prototxt of KaimingHe/deep-residual-networks and hujie-frank/SENet: a layer, its (out, in, k, k)
    'resnet50': {
        **{'conv1': (64, 3, 7, 7), 'res2a_branch1': (256, 64, 1, 1), 'res2a_branch2a': (64, 64, 1, 1)},
        **{'res2c_branch2b': (64, 64, 3, 3), 'res3d_branch2c': (512, 128, 1, 1), 'res4f_branch2a': (256, 1024, 1, 1)},
        **{'res5c_branch2c': (2048, 512, 1, 1), 'fc1000': (1000, 2048)},
    },
    'resnet101': {'res3b3_branch2a': (128, 512, 1, 1), 'res4b22_branch2c': (1024, 256, 1, 1)},
    'resnet152': {'res3b7_branch2c': (512, 128, 1, 1), 'res4b35_branch2b': (256, 256, 3, 3)},
    'se_resnet50': {
        **{'conv1/7x7_s2': (64, 3, 7, 7), 'conv2_1_1x1_reduce': (64, 64, 1, 1), 'conv2_1_1x1_down': (16, 256, 1, 1)},
        **{'conv2_1_1x1_up': (256, 16, 1, 1), 'conv2_1_1x1_proj': (256, 64, 1, 1), 'classifier': (1000, 2048)},
    },
    'senet154': {
        **{'conv1_1/3x3_s2': (64, 3, 3, 3), 'conv1_2/3x3': (64, 64, 3, 3), 'conv1_3/3x3': (128, 64, 3, 3)},
        **{'conv2_1_1x1_reduce': (128, 128, 1, 1), 'conv3_1_3x3': (512, 4, 3, 3)},
        **{'conv3_1_1x1_proj': (512, 256, 3, 3), 'conv3_1_1x1_down': (32, 512, 1, 1)},
    },
    'bn_inception': {'conv2/3x3_reduce': (64, 64, 1, 1), 'inception_3a/double3x3b': (96, 96, 3, 3)},
    'googlenet': {'inception_3a/5x5_reduce': (16, 192, 1, 1), 'loss3/classifier': (1000, 1024)},
    'vgg_d': {'conv5_3': (512, 512, 3, 3), 'fc6': (4096, 25088)},
    'alexnet': {'conv2': (256, 48, 5, 5), 'fc6': (4096, 9216)},
}
CAFFE_NORMS = {  # a convolution: the layers that normalize and scale
    'resnet50': ('conv1', 'bn_conv1', 'scale_conv1', 'res4f_branch2a', 'bn4f_branch2a', 'scale4f_branch2a'),
    'resnet101': ('conv1', 'bn_conv1', 'scale_conv1', 'res4b1_branch2b', 'bn4b1_branch2b', 'scale4b1_branch2b'),
    'se_resnet50': ('conv2_1_3x3', 'conv2_1_3x3/bn', 'conv2_1_3x3/bn/scale'),
}


def caffe_release(arch):
    return next(release for release in RELEASES[arch] if release.by == 'caffe')


@pytest.mark.parametrize('arch', CAFFE_LAYERS)
def test_layers_of_the_authors_caffe_files(arch):
    names = convert.their_names(arch, caffe_release(arch), 1000)
    shapes = {name: shape for name, shape, _ in names.values()}
    for layer, shape in CAFFE_LAYERS[arch].items():
        assert shapes[f'{layer}/weights'] == shape, layer
    norms = CAFFE_NORMS.get(arch, ())
    for conv, norm, scale in zip(norms[::3], norms[1::3], norms[2::3], strict=True):
        features = shapes[f'{conv}/weights'][0]
        assert {shapes[f'{norm}/{leaf}'] for leaf in ('mean', 'var')} == {(features,)}
        assert {shapes[f'{scale}/{leaf}'] for leaf in ('weights', 'bias')} == {(features,)}


def test_auxiliary_heads_of_googlenet():
    release = caffe_release('googlenet')
    names = convert.their_names('googlenet', release, 1000, heads=True)
    shapes = {name: shape for name, shape, _ in names.values()}
    assert shapes['loss1/conv/weights'] == (128, 512, 1, 1) and shapes['loss2/conv/weights'] == (128, 528, 1, 1)
    assert shapes['loss1/fc/weights'] == (1024, 2048) and shapes['loss2/classifier/bias'] == (1000,)
    tensors = {name: np.zeros(shape, np.float32) for name, shape in shapes.items()}
    found = convert.convert(tensors, 'googlenet')
    assert sum(x.size for x in jax.tree.leaves(found.variables)) == 13_378_280


def test_a_bias_before_a_batch_norm_goes_into_its_mean():
    """ResNet-50's first convolution has one in He's file, and no other."""
    release = caffe_release('resnet50')
    variables, model = filled('resnet50', release)
    tensors = tensors_of('resnet50', release, variables, model)
    bias = np.linspace(-1, 1, 64, dtype=np.float32)
    found = convert.convert(tensors | {'conv1/bias': bias}, 'resnet50', 'caffe')
    expected = variables['batch_stats']['conv1_bn']['mean'] - bias
    np.testing.assert_array_equal(found.variables['batch_stats']['conv1_bn']['mean'], expected)
    assert 'conv1/bias is folded into the mean of the batch norm after it' in found.notes


# Errors


def small(arch='resnet20'):
    release = RELEASES[arch][0]
    variables, model = filled(arch, release)
    return tensors_of(arch, release, variables, model)


def test_missing_left_over_and_misshapen_tensors_are_named():
    tensors = small()
    missing = {name: value for name, value in tensors.items() if not name.startswith('layer1.0')}
    with pytest.raises(UserError, match=r'it lacks layer1.0.conv1.weight, layer1.0.bn1.bias, .* and 6 more'):
        convert.convert(missing, 'resnet20')
    with pytest.raises(UserError, match='it has unexpected tensors: extra'):
        convert.convert(tensors | {'extra': np.zeros(3)}, 'resnet20')
    with pytest.raises(UserError, match=r'it has other shapes: conv1.weight of \(3, 3\), not \(16, 3, 3, 3\)'):
        convert.convert(tensors | {'conv1.weight': np.zeros((3, 3))}, 'resnet20')


def test_another_network_is_recognized():
    with pytest.raises(UserError, match=r'It looks like resnet20: pass --arch resnet20'):
        convert.convert(small(), 'resnet56')
    hundred = small()
    hundred['linear.weight'], hundred['linear.bias'] = np.zeros((100, 64), np.float32), np.zeros(100, np.float32)
    assert convert.convert(hundred, 'resnet20').num_classes == 100
    with pytest.raises(UserError, match='It looks like resnet20'):
        convert.convert(hundred, 'resnet32')


def test_wrong_names():
    with pytest.raises(UserError, match="no architecture 'resnet5', did you mean resnet"):
        convert.candidates('resnet5')
    with pytest.raises(UserError, match='no published weights of zfnet are known'):
        convert.candidates('zfnet')
    with pytest.raises(UserError, match="no release 'caffe' of resnet18; known: torchvision"):
        convert.candidates('resnet18', 'caffe')


# Checkpoints


@pytest.fixture(scope='module')
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp('file') / 'resnet20.npz'
    np.savez(path, **small())
    return path


@pytest.fixture(scope='module')
def converted(file):
    out = file.with_name('converted')
    weights.convert_file(file, 'resnet20', out, licence='CC0')
    return out


def test_the_passport(file, converted):
    card = passport.read(converted)
    assert card['source']['file'] == 'resnet20.npz' and card['source']['sha256'] == weights.files.sha256(file)
    assert card['licence'] == 'CC0' and card['options'] == {'shortcut': 'A_centered'}
    assert card['preprocessing']['mean_values'] == [123.675, 116.28, 103.53]
    assert card['classes'].startswith('CIFAR-10: airplane')
    layers = ['conv1', 'fc', 'logits', 'pool', 'stage1', 'stage2', 'stage3']
    assert sorted(card['probe']) == layers and card['probe']['stage3']['shape'] == [8, 8, 64]


def test_the_probe_image_is_the_same_for_ever():
    image = passport.probe_image(32, 3)
    assert image.shape == (1, 32, 32, 3) and image.dtype == np.uint8
    assert image[0, 0, :2].tolist() == [[121, 70, 188], [115, 55, 192]] and image[0, 31, 31].tolist() == [50, 25, 43]


def test_a_checkpoint_of_other_weights_is_detected(converted, tmp_path):
    """The passport of one beside the weights of another."""
    config = stored_config.get_config(str(converted))
    model = architectures.create('resnet20', shortcut='A_centered')
    with checkpoints.Checkpoints(converted / checkpoints.FOLDER, read_only=True) as kept:
        variables = kept.read_model(0)
    card = passport.read(converted)
    passport.check(card, passport.answers(model, variables, Pixels(config)), converted)
    variables['params']['stage2']['block1']['conv1']['kernel'] *= 1.01
    with pytest.raises(UserError, match='does not compute what its passport says'):
        passport.check(card, passport.answers(model, variables, Pixels(config)), converted)
    config.mean = 'cifar10'
    with pytest.raises(UserError, match='does not compute what its passport says'):
        passport.check(card, passport.answers(model, kept_variables(converted), Pixels(config)), converted)


def kept_variables(folder):
    with checkpoints.Checkpoints(folder / checkpoints.FOLDER, read_only=True) as kept:
        return kept.read_model(0)


def test_nothing_is_written_over(file, converted):
    before = sorted(path.name for path in converted.iterdir())
    with pytest.raises(UserError, match='already exists and is not overwritten; pass another --out'):
        weights.convert_file(file, 'resnet20', converted)
    assert (
        sorted(path.name for path in converted.iterdir()) == before == ['checkpoints', 'config.json', 'passport.json']
    )


def test_a_failure_leaves_nothing(tmp_path, file):
    with pytest.raises(UserError):
        weights.convert_file(file, 'resnet32', tmp_path / 'out')
    assert not list(tmp_path.iterdir())


def test_fine_tuning_starts_from_it_with_a_new_classifier(converted):
    fresh, _ = filled('resnet20', RELEASES['resnet20'][0], num_classes=7)
    copied = init_from.load(converted, fresh, pixels={'mean': 'cifar10'})
    assert copied.left == ['fc'] and copied.notes[1] == 'init_from: start at random (1): fc'
    assert copied.notes[2] == "init_from: the checkpoint was trained on other pixels: mean='fb', here 'cifar10'"


@pytest.mark.slow
def test_blue_green_red_is_folded_or_left_unchanged(tmp_path):
    """With `keep_bgr` the pixels are reversed, otherwise the weights: the outputs are equal."""
    release = caffe_release('googlenet')
    variables, model = filled('googlenet', release)
    tensors = tensors_of('googlenet', release, variables, model)
    np.savez(tmp_path / 'g.npz', **tensors)
    folded = weights.convert_file(tmp_path / 'g.npz', 'googlenet', tmp_path / 'folded')
    kept = weights.convert_file(tmp_path / 'g.npz', 'googlenet', tmp_path / 'kept', keep_bgr=True)
    assert (folded['preprocessing']['channel_order'], kept['preprocessing']['channel_order']) == ('rgb', 'bgr')
    passport.check(folded, kept['probe'], 'kept')
    assert kept['notes'] == ['conv1 still reads blue, green, red']


# Out


def test_safetensors_are_read_back_bit_for_bit(converted, tmp_path):
    config = stored_config.get_config(str(converted))
    notes = weights.export(config, converted, 'best', 'safetensors', tmp_path / 'hub')
    assert notes == ['116 tensors, named and laid out as resnet20 of akamaster']
    assert sorted(path.name for path in (tmp_path / 'hub').iterdir()) == [
        'README.md', 'config.json', 'model.safetensors', 'passport.json',
    ]  # fmt: skip
    weights.convert_file(tmp_path / 'hub' / 'model.safetensors', 'resnet20', tmp_path / 'again')
    chex.assert_trees_all_equal(kept_variables(tmp_path / 'again'), kept_variables(converted))
    hub = json.loads((tmp_path / 'hub' / 'config.json').read_text())
    assert hub['architecture'] == 'resnet20' and hub['pretrained_cfg']['mean'] == [0.485, 0.456, 0.406]
    card = (tmp_path / 'hub' / 'README.md').read_text()
    assert card.startswith('---\nlicense: CC0\n') and 'He et al. 2015' in card


def test_another_reading_is_not_passed_off_as_theirs():
    """The paper's ResNet-50 strides in the 1x1; torchvision's would read its weights without a word."""
    with pytest.raises(
        UserError, match="resnet50 of torchvision has stride_in='3x3', stem_pool='padded': not the same"
    ):
        exporting.release_for('resnet50', architectures.create('resnet50'))
    theirs = architectures.create('resnet50', stride_in='3x3', stem_pool='padded')
    assert exporting.release_for('resnet50', theirs).theirs == 'resnet50'
    with pytest.raises(UserError, match='torchvision or timm has no zfnet. Pass --release ours'):
        exporting.release_for('zfnet', architectures.create('zfnet'))
    assert exporting.release_for('zfnet', architectures.create('zfnet'), 'ours') is None


def test_stablehlo_answers_as_the_network(converted, tmp_path):
    from jax import export

    config = stored_config.get_config(str(converted))
    weights.export(config, converted, 'latest', 'stablehlo', tmp_path / 'hlo')
    called = export.deserialize(bytearray((tmp_path / 'hlo' / 'model.stablehlo').read_bytes()))
    model = architectures.create('resnet20', shortcut='A_centered')
    images = golden.uniform('images', (5, 32, 32, 3))
    expected = np.asarray(jax.jit(model.apply)(kept_variables(converted), images))
    for size in (1, 5):
        np.testing.assert_allclose(called.call(images[:size]), expected[:size], atol=1e-4 * np.abs(expected).max())


ONNX = ['lenet5', 'lenet5_1998'] + [
    pytest.param(name, marks=pytest.mark.slow)
    for name in (
        'resnet18',
        'alexnet',
        'zfnet',
        'bn_inception',
        'vgg_a_lrn',
        'prelu_net_a',
        'wrn_40_4',
        'densenet121',
        'se_resnet18',
    )
]
ONE_OF_A_KIND = {  # more of the same blocks are the same operations
    'resnet18': {'depths': (1, 1, 1, 1)},
    'se_resnet18': {'depths': (1, 1, 1, 1)},
    'wrn_40_4': {'depth': 10},
    'densenet121': {'blocks': (2, 1, 1, 1)},
}


@pytest.mark.parametrize('name', ONNX)
def test_onnx_runtime_answers_as_the_network(name, tmp_path, monkeypatch):
    onnxruntime = pytest.importorskip('onnxruntime', reason='requirements-dev.txt has it')
    from architectures import layers
    from weights import onnx_file

    if not name.startswith('lenet'):
        quarter(monkeypatch)
    shape = catalogue.NETWORKS[name].input_shape
    model = architectures.create(name, **ONE_OF_A_KIND.get(name, {}))
    variables = jax.device_get(architectures.initialize(model, 0, shape))
    with layers.plain_forms():
        onnx_file.write(tmp_path / 'm.onnx', lambda images: model.apply(variables, images), shape, name)
    session = onnxruntime.InferenceSession(tmp_path / 'm.onnx')
    quick = {'xla_backend_optimization_level': 0}
    forward = jax.jit(model.apply, compiler_options=layers.compiler_options() | quick)
    batch, *_, channels = session.get_inputs()[0].shape  # some take images of any size (test_exports.py)
    assert (batch, channels) == ('batch', shape[-1])
    images = golden.uniform('images', (3, *shape))
    expected = np.asarray(forward(variables, images))
    for size in (1, 3):
        (found,) = session.run(None, {'images': images[:size]})
        np.testing.assert_allclose(found, expected[:size], atol=1e-5 * np.abs(expected).max())


def test_no_such_format(converted, tmp_path):
    config = stored_config.get_config(str(converted))
    with pytest.raises(UserError, match="no format 'onx', did you mean onnx"):
        weights.export(config, converted, 'best', 'onx', tmp_path / 'x')
    with pytest.raises(UserError, match='has no step 7; it has 0'):
        weights.export(config, converted, '7', 'onnx', tmp_path / 'x')


# The scripts


def test_scripts_without_a_config(converted, script, tmp_path):
    record = b'\x07' + bytes(range(256)) * 12  # CIFAR-10's: a label, and 32 x 32 pixels of three colors
    (tmp_path / 'test_batch.bin').write_bytes(record * 20)
    done = script('evaluate.py', '--checkpoint', converted, f'--config.data_dir={tmp_path}')
    assert done.returncode == 0, done.stderr
    assert 'outputs for the probe image match the passport' in done.stdout
    broken = tmp_path / 'broken'
    shutil.copytree(converted, broken)
    card = json.loads((broken / passport.NAME).read_text())
    card['probe']['stage1']['rms'] *= 2
    (broken / passport.NAME).write_text(json.dumps(card))
    done = script('evaluate.py', '--checkpoint', broken, f'--config.data_dir={tmp_path}')
    assert done.returncode == 2 and done.stderr.count('\n') == 1 and 'convert it again' in done.stderr


@pytest.mark.parametrize(
    'arguments, message',
    [
        (('--source', 'README.md', '--out', 'y'), 'no --arch'),
        (('--source', 'torchvison:resnet18', '--out', 'y'), 'a release by its name is hf://OWNER/NAME or torchvision:'),
        (('--source', 'hf://a/b', '--arch', 'resnt50', '--out', 'y'), 'did you mean resnet50?'),
        (('--arch', 'resnet18', '--out', 'y'), 'no --source'),
        (('--arch', 'resnet18', '--source', 'x.pth'), 'no --out'),
        (('--arch', 'resnet18', '--source', 'x.pth', '--out', 'y'), 'x.pth does not exist'),
        (('--to', 'onnx', '--out', 'y'), 'no --checkpoint'),
        (('--to', 'onnx', '--checkpoint', 'nowhere', '--out', 'y'), 'nowhere does not exist'),
    ],
)
def test_convert_says_what_is_wrong_in_a_line(script, arguments, message):
    done = script('convert.py', *arguments)
    assert done.returncode == 2 and message in done.stderr and done.stderr.count('\n') == 1

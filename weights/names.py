"""The names of our layers in other programs, by family.

A table is a function from the path of one of our layers, such as ('conv2_x', 'block1', 'conv1'), to its name there.
Our names are the papers' (`architectures/`). `layout.py` has the names and layouts of a layer's tensors.
"""

from architectures.resnet import DEPTHS
from architectures.vgg import COLUMNS


def same(*path):
    """They use the paper's names, too."""
    return '/'.join(path)


# torchvision, timm and their like

ALEXNET = {
    **{'conv1': 'features.0', 'conv2': 'features.3', 'conv3': 'features.6', 'conv4': 'features.8'},
    **{'conv5': 'features.10', 'fc6': 'classifier.1', 'fc7': 'classifier.4', 'fc8': 'classifier.6'},
}


def vgg(column, batch_norm=False):
    """The names of a column of VGG: convolutions, batch norms, ReLUs and pools are numbered consecutively."""
    layers = {'fc6': 'classifier.0', 'fc7': 'classifier.3', 'fc8': 'classifier.6'}
    number = 0
    for block, row in enumerate(COLUMNS[column], start=1):
        for place in range(1, len(row) + 1):
            layers[f'conv{block}_{place}'] = f'features.{number}'
            if batch_norm:
                number += 1
                layers[f'conv{block}_{place}_bn'] = f'features.{number}'
            number += 2
        number += 1
    return layers.__getitem__


IN_BLOCK = {
    **{f'conv{number}_bn': f'bn{number}' for number in (1, 2, 3)},
    **{'projection': 'downsample.0', 'projection_bn': 'downsample.1'},
    **{'squeeze': 'fc1', 'excite': 'fc2'},
}


def resnet(*path):
    """ResNets, Wide ResNets, ResNeXts; timm's SE-ResNets."""
    *outer, layer = path
    layer = IN_BLOCK.get(layer, layer)
    match outer:
        case (stage, block):
            return f'layer{int(stage[4]) - 1}.{int(block[5:]) - 1}.{layer}'
        case (stage, block, 'gate'):
            return f'layer{int(stage[4]) - 1}.{int(block[5:]) - 1}.se.{layer}'
    return layer


def cifar_resnet(*path):
    """ResNets for CIFAR, named as in torchvision."""
    match path:
        case (stage, block, layer):
            return f'layer{stage[5]}.{int(block[5:]) - 1}.{IN_BLOCK.get(layer, layer)}'
    return resnet(*path)


def akamaster(*path):
    """akamaster/pytorch_resnet_cifar10: the same except for the classifier."""
    return 'linear' if path == ('fc',) else cifar_resnet(*path)


def legacy_senet(*path):
    """timm's legacy SE networks, from Cadene's pretrained-models.pytorch."""
    match path:
        case ('fc' | 'classifier',):
            return 'last_linear'
        case (layer,):  # conv1, or SENet-154's conv1_1, conv1_2, conv1_3
            number = layer.removesuffix('_bn').removeprefix('conv1_').removeprefix('conv')
            return f'layer0.bn{number}' if layer.endswith('_bn') else f'layer0.conv{number}'
    return resnet(*path).replace('.se.', '.se_module.')


def densenet(*path):
    """DenseNets."""
    match path:
        case ('classifier',):
            return 'classifier'
        case (layer,):
            last = {'norm_bn': 'norm5', 'convolution': 'conv0', 'convolution_bn': 'norm0'}[layer]
        case (transition, layer):
            last = f'transition{transition[11:]}.{"norm" if layer == "conv_bn" else "conv"}'
        case (block, number, layer):
            kind = 'norm' if layer.endswith('_bn') else 'conv'
            last = f'denseblock{block[12:]}.denselayer{number[5:]}.{kind}{layer[4]}'
    return f'features.{last}'


BN_INCEPTION_STEM = {
    'conv1': 'conv1/7x7_s2',
    'conv2_reduce': 'conv2/3x3_reduce',
    'conv2': 'conv2/3x3',
}


def bninception(*path):
    """Cadene's BN-Inception, after yjxiong's Caffe file with underscores for slashes."""
    if path == ('classifier',):
        return 'last_linear'
    *outer, last = path
    conv = last.removesuffix('_bn')
    name = '_'.join((*outer, BN_INCEPTION_STEM.get(conv, conv))).replace('/', '_')
    return f'{name}_bn' if last.endswith('_bn') else name


# Caffe. A batch norm is a pair of layers there: one that normalizes and one that scales.


def caffe_googlenet(*path):
    """BVLC's GoogLeNet; its auxiliary heads are loss1 and loss2."""
    name = '/'.join(path)
    named = {
        'conv1': 'conv1/7x7_s2',
        'conv2_reduce': 'conv2/3x3_reduce',
        'conv2': 'conv2/3x3',
        'classifier': 'loss3/classifier',
    }
    heads = {'loss_4a_': 'loss1/', 'loss_4d_': 'loss2/'}
    for ours, theirs in heads.items():
        name = name.replace(ours, theirs)
    return named.get(name, name)


def caffe_resnet(depth):
    """The names of He's ResNet of that depth: blocks of a stage are a, b, c, ..., in long stages a, b1, b2, ..."""
    blocks = dict(zip(('conv2_x', 'conv3_x', 'conv4_x', 'conv5_x'), DEPTHS[depth], strict=True))

    def table(*path):
        last = path[-1].removesuffix('_bn')
        if len(path) == 1:
            name = {'fc': 'fc1000'}.get(last, last)
            return (f'bn_{name}', f'scale_{name}') if path[-1].endswith('_bn') else name
        stage, block, _ = path
        number = int(block[5:]) - 1
        numbered = depth > 50 and stage in ('conv3_x', 'conv4_x')
        letter = f'b{number}' if numbered and number else 'abcdef'[number]
        branch = {'projection': '1', 'conv1': '2a', 'conv2': '2b', 'conv3': '2c'}[last]
        name = f'{stage[4]}{letter}_branch{branch}'
        assert number < blocks[stage]
        return (f'bn{name}', f'scale{name}') if path[-1].endswith('_bn') else f'res{name}'

    return table


def caffe_senet(*path):
    """Hu's SE-ResNets, SE-ResNeXts and SENet-154."""
    *outer, last = path
    conv = last.removesuffix('_bn')
    if not outer:
        name = {
            'conv1': 'conv1/7x7_s2',
            'conv1_1': 'conv1_1/3x3_s2',
            'conv1_2': 'conv1_2/3x3',
            'conv1_3': 'conv1_3/3x3',
            'fc': 'classifier',
        }.get(conv, conv)
    else:
        kind = {
            **{'conv1': '1x1_reduce', 'conv2': '3x3', 'conv3': '1x1_increase', 'projection': '1x1_proj'},
            **{'squeeze': '1x1_down', 'excite': '1x1_up'},
        }[conv]
        name = f'{outer[0][:5]}_{outer[1][5:]}_{kind}'
    return (f'{name}/bn', f'{name}/bn/scale') if last.endswith('_bn') else name


def caffe_bn_inception(*path):
    """BN-Inception, named as in Hu's SE-BN-Inception without the gates."""
    *outer, last = path
    conv = last.removesuffix('_bn')
    double = {'double_3x3_reduce': 'double3x3_reduce', 'double_3x3_1': 'double3x3a', 'double_3x3_2': 'double3x3b'}
    name = '/'.join((*outer, double.get(conv, BN_INCEPTION_STEM.get(conv, conv))))
    return (f'{name}/bn', f'{name}/bn/scale') if last.endswith('_bn') else name


def caffe_bn_inception_fork(*path):
    """BN-Inception in yjxiong's fork of Caffe, where a batch norm is one layer of the fork's type BN."""
    if path == ('classifier',):
        return 'fc'
    *outer, last = path
    conv = last.removesuffix('_bn')
    name = '/'.join((*outer, BN_INCEPTION_STEM.get(conv, conv)))
    return (f'{name}_bn', f'{name}_bn') if last.endswith('_bn') else name

"""What the networks are, to the unit: sizes of their feature maps and counts of their other readings.

From the papers' tables and the authors' files, counted by arithmetic and beside independent implementations
(torchvision, timm, parsed Caffe files), never by the code under test. The counts of the networks as they are registered
are in `architectures.catalogue`.
"""

# NAMES: the layers in order, each with the side of its square map and its channels.
_FEATURE_MAPS = """
lenet5:
    conv1 28x6, pool1 14x6, conv2 10x16, pool2 5x16, fc1 1x120, fc2 1x84, fc3 1x10

lenet5_1998:
    C1 28x6, S2 14x6, C3 10x16, S4 5x16, C5 1x120, F6 1x84, output 1x10

lenet_caffe:
    conv1 24x20, pool1 12x20, conv2 8x50, pool2 4x50, ip1 1x500, ip2 1x10

alexnet:
    conv1 55x96, pool1 27x96, conv2 27x256, pool2 13x256, conv3 13x384, conv4 13x384, conv5 13x256, pool5 6x256,
    fc6 1x4096, fc7 1x4096, fc8 1x1000

alexnet_owt:
    conv1 55x64, pool1 27x64, conv2 27x192, pool2 13x192, conv3 13x384, conv4 13x256, conv5 13x256, pool5 6x256,
    fc6 1x4096, fc7 1x4096, fc8 1x1000

zfnet:
    layer1_conv 110x96, layer1 55x96, layer2_conv 26x256, layer2 13x256, layer3 13x384, layer4 13x384,
    layer5_conv 13x256, layer5 6x256, layer6 1x4096, layer7 1x4096, output 1x1000

zfnet_wide:
    layer1_conv 110x96, layer1 55x96, layer2_conv 26x256, layer2 13x256, layer3 13x512, layer4 13x1024,
    layer5_conv 13x512, layer5 6x512, layer6 1x4096, layer7 1x4096, output 1x1000

overfeat_fast:
    layer1_conv 56x96, layer1 28x96, layer2_conv 24x256, layer2 12x256, layer3 12x512, layer4 12x1024,
    layer5_conv 12x1024, layer5 6x1024, layer6 1x3072, layer7 1x4096, output 1x1000

overfeat_accurate:
    layer1_conv 108x96, layer1 36x96, layer2_conv 30x256, layer2 15x256, layer3 15x512, layer4 15x512, layer5 15x1024,
    layer6_conv 15x1024, layer6 5x1024, layer7 1x4096, layer8 1x4096, output 1x1000

googlenet:
    conv1 112x64, pool1 56x64, conv2_reduce 56x64, conv2 56x192, pool2 28x192, inception_3a 28x256,
    inception_3b 28x480, pool3 14x480, inception_4a 14x512, inception_4b 14x512, inception_4c 14x512,
    inception_4d 14x528, inception_4e 14x832, pool4 7x832, inception_5a 7x832, inception_5b 7x1024, pool5 1x1024,
    classifier 1x1000

bn_inception:
    conv1 112x64, pool1 56x64, conv2_reduce 56x64, conv2 56x192, pool2 28x192, inception_3a 28x256,
    inception_3b 28x320, inception_3c 14x576, inception_4a 14x576, inception_4b 14x576, inception_4c 14x608,
    inception_4d 14x608, inception_4e 7x1056, inception_5a 7x1024, inception_5b 7x1024, global_pool 1x1024,
    classifier 1x1000

vgg_a, vgg_a_lrn:
    conv1_1 224x64, pool1 112x64, conv2_1 112x128, pool2 56x128, conv3_1 56x256, conv3_2 56x256, pool3 28x256,
    conv4_1 28x512, conv4_2 28x512, pool4 14x512, conv5_1 14x512, conv5_2 14x512, pool5 7x512, fc6 1x4096, fc7 1x4096,
    fc8 1x1000

vgg_b:
    conv1_1 224x64, conv1_2 224x64, pool1 112x64, conv2_1 112x128, conv2_2 112x128, pool2 56x128, conv3_1 56x256,
    conv3_2 56x256, pool3 28x256, conv4_1 28x512, conv4_2 28x512, pool4 14x512, conv5_1 14x512, conv5_2 14x512,
    pool5 7x512, fc6 1x4096, fc7 1x4096, fc8 1x1000

vgg_c, vgg_d:
    conv1_1 224x64, conv1_2 224x64, pool1 112x64, conv2_1 112x128, conv2_2 112x128, pool2 56x128, conv3_1 56x256,
    conv3_2 56x256, conv3_3 56x256, pool3 28x256, conv4_1 28x512, conv4_2 28x512, conv4_3 28x512, pool4 14x512,
    conv5_1 14x512, conv5_2 14x512, conv5_3 14x512, pool5 7x512, fc6 1x4096, fc7 1x4096, fc8 1x1000

vgg_e:
    conv1_1 224x64, conv1_2 224x64, pool1 112x64, conv2_1 112x128, conv2_2 112x128, pool2 56x128, conv3_1 56x256,
    conv3_2 56x256, conv3_3 56x256, conv3_4 56x256, pool3 28x256, conv4_1 28x512, conv4_2 28x512, conv4_3 28x512,
    conv4_4 28x512, pool4 14x512, conv5_1 14x512, conv5_2 14x512, conv5_3 14x512, conv5_4 14x512, pool5 7x512,
    fc6 1x4096, fc7 1x4096, fc8 1x1000

prelu_net_a:
    conv1 112x96, pool1 56x96, conv2_1 56x256, conv2_2 56x256, conv2_3 56x256, conv2_4 56x256, conv2_5 56x256,
    pool2 28x256, conv3_1 28x512, conv3_2 28x512, conv3_3 28x512, conv3_4 28x512, conv3_5 28x512, pool3 14x512,
    conv4_1 14x512, conv4_2 14x512, conv4_3 14x512, conv4_4 14x512, conv4_5 14x512, spp 1x32256, fc1 1x4096,
    fc2 1x4096, fc3 1x1000

prelu_net_b:
    conv1 112x96, pool1 56x96, conv2_1 56x256, conv2_2 56x256, conv2_3 56x256, conv2_4 56x256, conv2_5 56x256,
    conv2_6 56x256, pool2 28x256, conv3_1 28x512, conv3_2 28x512, conv3_3 28x512, conv3_4 28x512, conv3_5 28x512,
    conv3_6 28x512, pool3 14x512, conv4_1 14x512, conv4_2 14x512, conv4_3 14x512, conv4_4 14x512, conv4_5 14x512,
    conv4_6 14x512, spp 1x32256, fc1 1x4096, fc2 1x4096, fc3 1x1000

prelu_net_c:
    conv1 112x96, pool1 56x96, conv2_1 56x384, conv2_2 56x384, conv2_3 56x384, conv2_4 56x384, conv2_5 56x384,
    conv2_6 56x384, pool2 28x384, conv3_1 28x768, conv3_2 28x768, conv3_3 28x768, conv3_4 28x768, conv3_5 28x768,
    conv3_6 28x768, pool3 14x768, conv4_1 14x896, conv4_2 14x896, conv4_3 14x896, conv4_4 14x896, conv4_5 14x896,
    conv4_6 14x896, spp 1x56448, fc1 1x4096, fc2 1x4096, fc3 1x1000

plain18, plain34, resnet18, resnet34, se_resnet18, se_resnet34:
    conv1 112x64, pool1 56x64, conv2_x 56x64, conv3_x 28x128, conv4_x 14x256, conv5_x 7x512, pool5 1x512, fc 1x1000

resnet50, resnet101, resnet152, wide_resnet50_2, resnext50_32x4d, resnext101_32x4d, resnext101_64x4d, se_resnet50,
se_resnet101, se_resnet152, se_resnext50_32x4d, se_resnext101_32x4d:
    conv1 112x64, pool1 56x64, conv2_x 56x256, conv3_x 28x512, conv4_x 14x1024, conv5_x 7x2048, pool5 1x2048,
    fc 1x1000

resnet20, resnet32, resnet44, resnet56, resnet110, resnet1202, plain20, plain32, plain44, plain56:
    conv1 32x16, stage1 32x16, stage2 16x32, stage3 8x64, pool 1x64, fc 1x10

wrn_28_10:
    conv1 32x16, conv2 32x160, conv3 16x320, conv4 8x640, pool 1x640, fc 1x10

wrn_40_4:
    conv1 32x16, conv2 32x64, conv3 16x128, conv4 8x256, pool 1x256, fc 1x10

densenet121:
    convolution 112x64, pooling 56x64, dense_block_1 56x256, transition_1 28x128, dense_block_2 28x512,
    transition_2 14x256, dense_block_3 14x1024, transition_3 7x512, dense_block_4 7x1024, pool 1x1024,
    classifier 1x1000

densenet169:
    convolution 112x64, pooling 56x64, dense_block_1 56x256, transition_1 28x128, dense_block_2 28x512,
    transition_2 14x256, dense_block_3 14x1280, transition_3 7x640, dense_block_4 7x1664, pool 1x1664,
    classifier 1x1000

densenet201:
    convolution 112x64, pooling 56x64, dense_block_1 56x256, transition_1 28x128, dense_block_2 28x512,
    transition_2 14x256, dense_block_3 14x1792, transition_3 7x896, dense_block_4 7x1920, pool 1x1920,
    classifier 1x1000

densenet264:
    convolution 112x64, pooling 56x64, dense_block_1 56x256, transition_1 28x128, dense_block_2 28x512,
    transition_2 14x256, dense_block_3 14x2304, transition_3 7x1152, dense_block_4 7x2688, pool 1x2688,
    classifier 1x1000

densenet161:
    convolution 112x96, pooling 56x96, dense_block_1 56x384, transition_1 28x192, dense_block_2 28x768,
    transition_2 14x384, dense_block_3 14x2112, transition_3 7x1056, dense_block_4 7x2208, pool 1x2208,
    classifier 1x1000

densenet_bc_100_12:
    convolution 32x24, dense_block_1 32x216, transition_1 16x108, dense_block_2 16x300, transition_2 8x150,
    dense_block_3 8x342, pool 1x342, classifier 1x10

senet154:
    conv1_1 112x64, conv1_2 112x64, conv1_3 112x128, pool1 56x128, conv2_x 56x256, conv3_x 28x512, conv4_x 14x1024,
    conv5_x 7x2048, pool5 1x2048, classifier 1x1000
"""


def _sizes(cells):
    """{layer: (height, width, channels)} of 'layer SIDExCHANNELS ...'."""
    pairs = zip(cells[::2], (size.split('x') for size in cells[1::2]), strict=True)
    return {layer: (int(side), int(side), int(channels)) for layer, (side, channels) in pairs}


FEATURE_MAPS = {}
for entry in _FEATURE_MAPS.strip().split('\n\n'):
    names, maps = (part.replace(',', ' ').split() for part in entry.split(':'))
    FEATURE_MAPS.update(dict.fromkeys(names, _sizes(maps)))

# Activations that have a name in the code and none in the paper: ZFNet's pools, before their contrast normalization.
UNNAMED = {
    'zfnet': {'layer1_pool', 'layer2_pool'},
    'zfnet_wide': {'layer1_pool', 'layer2_pool'},
}

# Other readings of a name: the options that give it, parameters, running statistics, multiply-adds.
VARIANTS = [
    ('bn_inception', {'conv_bias': None}, 11_285_224, 20_032, 2_032_600_064),
    ('bn_inception', {'conv_bias': None, 'narrow_projection': True}, 11_194_984, 19_904, 2_018_851_840),
    ('bn_inception', {'narrow_projection': True}, 11_204_936, 19_904, 2_018_851_840),
    ('resnet18', {'shortcut': 'A'}, 11_515_688, 7_808, 1_794_805_760),
    ('resnet18', {'shortcut': 'C'}, 12_043_816, 11_648, 1_878_298_624),
    ('resnet18', {'preactivation': True}, 11_687_720, 7_808, 1_814_073_344),
    ('resnet18', {'preactivation': True, 'shortcut': 'A'}, 11_515_688, 7_808, 1_794_805_760),
    ('resnet34', {'shortcut': 'A'}, 21_623_848, 15_232, 3_644_493_824),
    ('resnet34', {'shortcut': 'C'}, 22_716_840, 22_784, 3_830_747_136),
    ('resnet34', {'preactivation': True}, 21_795_880, 15_232, 3_663_761_408),
    ('resnet34', {'preactivation': True, 'shortcut': 'A'}, 21_623_848, 15_232, 3_644_493_824),
    ('resnet50', {'shortcut': 'A'}, 22_780_456, 45_440, 3_498_311_680),
    ('resnet50', {'shortcut': 'C'}, 40_128_552, 75_648, 6_324_224_000),
    ('resnet50', {'stride_in': '3x3', 'shortcut': 'A'}, 22_780_456, 45_440, 3_729_522_688),
    ('resnet50', {'stride_in': '3x3'}, 25_557_032, 53_120, 4_089_184_256),
    ('resnet50', {'stride_in': '3x3', 'shortcut': 'C'}, 40_128_552, 75_648, 6_555_435_008),
    ('resnet50', {'preactivation': True}, 25_549_352, 45_440, 4_089_184_256),
    ('resnet50', {'preactivation': True, 'shortcut': 'A'}, 22_780_456, 45_440, 3_729_522_688),
    ('resnet101', {'shortcut': 'A'}, 41_772_584, 97_664, 7_210_532_864),
    ('resnet101', {'shortcut': 'C'}, 76_981_288, 162_688, 13_530_300_416),
    ('resnet101', {'stride_in': '3x3', 'shortcut': 'A'}, 41_772_584, 97_664, 7_441_743_872),
    ('resnet101', {'stride_in': '3x3'}, 44_549_160, 105_344, 7_801_405_440),
    ('resnet101', {'stride_in': '3x3', 'shortcut': 'C'}, 76_981_288, 162_688, 13_761_511_424),
    ('resnet101', {'preactivation': True}, 44_541_480, 97_664, 7_801_405_440),
    ('resnet101', {'preactivation': True, 'shortcut': 'A'}, 41_772_584, 97_664, 7_441_743_872),
    ('resnet152', {'shortcut': 'A'}, 57_416_232, 143_744, 10_922_754_048),
    ('resnet152', {'shortcut': 'C'}, 107_335_720, 239_488, 20_736_376_832),
    ('resnet152', {'stride_in': '3x3', 'shortcut': 'A'}, 57_416_232, 143_744, 11_153_965_056),
    ('resnet152', {'stride_in': '3x3'}, 60_192_808, 151_424, 11_513_626_624),
    ('resnet152', {'stride_in': '3x3', 'shortcut': 'C'}, 107_335_720, 239_488, 20_967_587_840),
    ('resnet152', {'preactivation': True}, 60_185_128, 143_744, 11_513_626_624),
    ('resnet152', {'preactivation': True, 'shortcut': 'A'}, 57_416_232, 143_744, 11_153_965_056),
    ('resnet20', {'shortcut': 'B'}, 272_474, 1_568, 40_813_184),
    ('resnet32', {'shortcut': 'B'}, 466_906, 2_464, 69_124_736),
    ('resnet44', {'shortcut': 'B'}, 661_338, 3_360, 97_436_288),
    ('resnet56', {'shortcut': 'B'}, 855_770, 4_256, 125_747_840),
    ('resnet110', {'shortcut': 'B'}, 1_730_714, 8_288, 253_149_824),
    ('wrn_28_10', {'num_classes': 100}, 36_536_884, 17_952, 5_243_386_368),
    ('wrn_40_4', {'num_classes': 100}, 8_972_340, 10_784, 1_298_605_056),
    ('densenet_bc_100_12', {'num_classes': 100}, 800_032, 23_988, 287_960_472),
    ('se_resnet18', {'stride_in': '3x3'}, 11_778_592, 9_600, 1_814_160_384),
    ('se_resnet34', {'stride_in': '3x3'}, 21_958_868, 17_024, 3_663_918_592),
    ('se_resnet50', {'stride_in': '3x3'}, 28_088_024, 53_120, 4_091_699_200),
    ('se_resnet101', {'stride_in': '3x3'}, 49_326_872, 105_344, 7_806_148_608),
    ('se_resnet152', {'stride_in': '3x3'}, 66_821_848, 151_424, 11_520_204_800),
    ('vgg_a', {'batch_norm': True}, 132_868_840, 5_504, 7_609_090_048),
    ('vgg_b', {'batch_norm': True}, 133_053_736, 5_888, 11_308_466_176),
    ('vgg_d', {'batch_norm': True}, 138_365_992, 8_448, 15_470_264_320),
    ('vgg_e', {'batch_norm': True}, 143_678_248, 11_008, 19_632_062_464),
    ('prelu_net_a', {'activation': 'relu'}, 178_017_384, 0, 19_058_106_368),
    ('prelu_net_b', {'activation': 'relu'}, 183_327_080, 0, 23_219_904_512),
    ('prelu_net_c', {'activation': 'relu'}, 330_603_368, 0, 53_463_130_112),
]  # fmt: skip

# GoogLeNet while it trains: with the heads on 4a and 4d.
GOOGLENET_WITH_HEADS = 13_378_280

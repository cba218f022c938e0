"""AlexNet: Krizhevsky, Sutskever, Hinton, "ImageNet Classification with Deep Convolutional Neural Networks", 2012."""

import flax.linen as nn

from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Network


class AlexNet(Network):
    """AlexNet as published (section 3 and figure 2); 60,965,224 parameters.

    Its two towers are two groups in conv2, conv4 and conv5; conv3 and the fully connected layers read both. Response
    normalization comes before pooling. Biases start at 1 in conv2, conv4, conv5 and the hidden fully connected layers.

    The paper prints an input of 224 and 55x55 maps: its program rounded sizes up, so that the last window of conv1
    hung over the edge. 227 gives the same maps without that; `round_up` takes 224 as the paper's program did.

    Options: `lrn` ('paper', 'cuda_convnet', 'caffe', 'none'), `dropout`, `groups`, `hidden_bias` (Caffe: 0.1),
    `pool_before_norm` (the order in the lecture and in Caffe's CaffeNet), `window` (the side of the map that fc6
    reads: smaller for smaller training images). The lecture's version is groups=1, hidden_bias=0,
    pool_before_norm=True.

    `extra_conv` adds the sixth convolution, over pool5, of the two pre-trained networks in the paper's ensemble of
    seven. The paper does not give its shape; here it is that of conv5.

    Input [B, 227, 227, 3].
    """

    initializer: str = 'gaussian_0.01'
    lrn: str = 'paper'
    dropout: float = 0.5
    groups: int = 2
    hidden_bias: float = 1.0
    pool_before_norm: bool = False
    round_up: bool = False
    window: int = 6
    extra_conv: bool = False

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net, bias, towers = self.layers(train), self.hidden_bias, self.groups
        x = net.conv('conv1', images, 96, 11, stride=4, ceil=self.round_up)
        x = self.pool_and_norm(net, 'pool1', x)
        x = net.conv('conv2', x, 256, 5, padding=2, groups=towers, bias=bias)
        x = self.pool_and_norm(net, 'pool2', x)
        x = net.conv('conv3', x, 384, 3, padding=1)
        x = net.conv('conv4', x, 384, 3, padding=1, groups=towers, bias=bias)
        x = net.conv('conv5', x, 256, 3, padding=1, groups=towers, bias=bias)
        x = net.max_pool('pool5', x, 3, 2)
        if self.extra_conv:
            x = net.conv('conv6', x, 256, 3, padding=1, groups=towers, bias=bias)
        x = net.dropout(net.fc('fc6', x, 4096, window=self.window, bias=bias), self.dropout)
        x = net.dropout(net.fc('fc7', x, 4096, bias=bias), self.dropout)
        return net.logits('fc8', x, dense)

    def pool_and_norm(self, net, name, x):
        if self.pool_before_norm:
            return net.lrn(net.max_pool(name, x, 3, 2))
        return net.max_pool(name, net.lrn(x), 3, 2)


class AlexNetOWT(Network):
    """AlexNet in one tower, from "One weird trick for parallelizing convolutional neural networks" (Krizhevsky 2014).

    61,100,840 parameters; torchvision's alexnet. As in torchvision, there is no response normalization, and dropout
    comes before the fully connected layers. The author's cuda-convnet2 file normalizes after conv1 and conv2
    (`lrn='cuda_convnet'`) and has dropout after fc6 and fc7 (`dropout_first=False`). `window`: see `AlexNet`.

    Input [B, 224, 224, 3].
    """

    initializer: str = 'gaussian_0.01'
    lrn: str = 'none'
    dropout: float = 0.5
    dropout_first: bool = True
    hidden_bias: float = 1.0
    window: int = 6

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net, bias = self.layers(train), self.hidden_bias
        before = self.dropout if self.dropout_first else 0.0
        after = self.dropout - before
        x = net.lrn(net.conv('conv1', images, 64, 11, stride=4, padding=2))
        x = net.max_pool('pool1', x, 3, 2)
        x = net.lrn(net.conv('conv2', x, 192, 5, padding=2, bias=bias))
        x = net.max_pool('pool2', x, 3, 2)
        x = net.conv('conv3', x, 384, 3, padding=1)
        x = net.conv('conv4', x, 256, 3, padding=1, bias=bias)
        x = net.conv('conv5', x, 256, 3, padding=1, bias=bias)
        x = net.max_pool('pool5', x, 3, 2)
        x = net.dropout(net.fc('fc6', net.dropout(x, before), 4096, window=self.window, bias=bias), after)
        x = net.dropout(net.fc('fc7', net.dropout(x, before), 4096, bias=bias), after)
        return net.logits('fc8', x, dense)


PAPER = Paper('Krizhevsky et al.', 2012, 'ImageNet Classification with Deep Convolutional Neural Networks', 'NIPS 2012')
OWT_PAPER = Paper(
    'Krizhevsky', 2014, 'One weird trick for parallelizing convolutional neural networks', 'arXiv:1404.5997'
)

NETWORKS = {
    'alexnet': Entry(
        AlexNet, paper=PAPER, family='AlexNet', input_shape=(227, 227, 3),
        parameters=60_965_224, multiply_adds=724_406_816,
        theirs=(
            Theirs('caffe', 'bvlc_alexnet', {'lrn': 'caffe'}),
            Theirs('caffe_caffenet', 'bvlc_reference_caffenet', {'lrn': 'caffe', 'pool_before_norm': True}),
        ),
        notes=(
            "Caffe's biases start at 0.1 where these start at 1: `hidden_bias=0.1`. Its fc6 and fc7 start with a "
            'standard deviation of 0.005.',
            'alexnet of torchvision is `alexnet_owt`, with one tower and other widths; timm has no AlexNet.',
        ),
    ),
    'alexnet_owt': Entry(
        AlexNetOWT, paper=OWT_PAPER, family='AlexNet', parameters=61_100_840, multiply_adds=714_188_480,
        theirs=(Theirs('torchvision', 'alexnet'),),
        notes=(
            'torchvision initializes differently. timm and Caffe do not have this network.',
            "The author's file (cuda-convnet2) normalizes after conv1 and conv2 and has dropout after fc6 and fc7: "
            "`lrn='cuda_convnet'`, `dropout_first=False`. It rounds sizes up; this network pads conv1 instead.",
        ),
    ),
}  # fmt: skip

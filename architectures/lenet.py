"""LeNet-5: LeCun, Bottou, Bengio, Haffner, "Gradient-Based Learning Applied to Document Recognition", 1998.

`LeNet5` is the network as it is taught today; `LeNet51998` is the paper's (section II.B and figure 2); `LeNetCaffe` is
Caffe's version.
"""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from architectures import layers
from architectures.entry import Entry, Paper, Theirs
from architectures.layers import Conv, Network
from runtime.errors import UserError

# Table I: which of the six maps of S2 each of the sixteen maps of C3 reads.
C3_CONNECTIONS = (
    (0, 1, 2),
    (1, 2, 3),
    (2, 3, 4),
    (3, 4, 5),
    (4, 5, 0),
    (5, 0, 1),
    (0, 1, 2, 3),
    (1, 2, 3, 4),
    (2, 3, 4, 5),
    (3, 4, 5, 0),
    (4, 5, 0, 1),
    (5, 0, 1, 2),
    (0, 1, 3, 4),
    (1, 2, 4, 5),
    (0, 2, 3, 5),
    (0, 1, 2, 3, 4, 5),
)


class LeNet5(Network):
    """LeNet-5 as it is taught: full connections, max pooling, a softmax output; 61,706 parameters.

    It has the paper's widths 6-16-120-84-10, and differs in C3 (every map reads all six), the subsampling (max pooling,
    without parameters), the activation (ReLU; the lecture's is `tanh`) and the output (dense).

    Weights are initialized as in He et al. 2015 for ReLU, and as in the paper for other activations; `initializer`
    overrides this. `dropout` is the rate after the hidden layers fc1 and fc2; the paper has no dropout.

    Input [B, 32, 32, 1] float, output logits [B, num_classes].
    """

    num_classes: int = 10
    initializer: str = ''
    dropout: float = 0.0

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        init = self.initializer or ('he_uniform' if self.activation == 'relu' else 'lecun_uniform')
        net = self.layers(train, init)
        x = net.conv('conv1', images, 6, 5)
        x = net.max_pool('pool1', x, 2, 2)
        x = net.conv('conv2', x, 16, 5)
        x = net.max_pool('pool2', x, 2, 2)
        x = net.dropout(net.fc('fc1', x, 120, window=5), self.dropout)
        x = net.dropout(net.fc('fc2', x, 84), self.dropout)
        return net.logits('fc3', x, dense)


class LeNetCaffe(Network):
    """The LeNet of Caffe's examples; 431,080 parameters.

    It is wider than LeNet-5, takes 28x28 images, and is linear except for its pools and one ReLU.

    Options: `window`, the side of the map that ip1 reads (5 for 32x32 images).

    Input [B, 28, 28, 1] float, output logits [B, num_classes].
    """

    num_classes: int = 10
    initializer: str = 'caffe_xavier'
    window: int = 4

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        x = net.conv('conv1', images, 20, 5, linear=True)
        x = net.max_pool('pool1', x, 2, 2)
        x = net.conv('conv2', x, 50, 5, linear=True)
        x = net.max_pool('pool2', x, 2, 2)
        x = net.fc('ip1', x, 500, window=self.window)
        return net.logits('ip2', x, dense)


class LeNet51998(Network):
    """LeNet-5 as published: 60,000 trainable parameters (156 + 12 + 1,516 + 32 + 48,120 + 10,164).

    Squashing after C1, S2, C3, S4, C5, F6. The output units are Euclidean RBFs (Eq. 7) with fixed +-1 bitmaps; the
    logits are the negative penalties, so that the class of the smallest penalty has the largest logit.

    Options for the lecture's version: `pool='max'`, `c3='full'` (2,416 parameters), `output='dense'`. Weights start
    uniform in +-2.4/F, F the inputs of the unit (appendix A), or with `init_power=0.5` in +-2.4/sqrt(F).

    Input [B, 32, 32, 1] float, output logits [B, num_classes].
    """

    num_classes: int = 10
    activation: str = 'scaled_tanh'
    initializer: str = 'lecun_uniform'
    pool: str = 'subsample'
    c3: str = 'table'
    output: str = 'rbf'
    init_power: float = 1.0

    def setup(self):
        layers.choose('pool', self.pool, ('subsample', 'max'))
        layers.choose('c3', self.c3, ('table', 'full'))
        layers.choose('output', self.output, ('rbf', 'dense'))
        if self.output == 'rbf' and self.num_classes > len(BITMAPS):
            raise UserError(f'there are RBF units for {len(BITMAPS)} digits, not {self.num_classes}: set output=dense')
        is_default = self.initializer == 'lecun_uniform'
        init = layers.uniform_fan_in(2.4, self.init_power) if is_default else layers.initializer(self.initializer)
        options = {'kernel_init': init, 'dtype': self.dtype, 'param_dtype': self.param_dtype}
        table = C3_CONNECTIONS if self.c3 == 'table' else (tuple(range(6)),) * 16
        self.C1 = Conv(6, (5, 5), **options)
        subsample = self.pool == 'subsample'
        self.S2 = Subsampling(self.param_dtype) if subsample else lambda x: layers.max_pool(x, 2, 2)
        self.C3 = TableConv(table, self.init_power, dtype=self.dtype, param_dtype=self.param_dtype)
        self.S4 = Subsampling(self.param_dtype) if subsample else lambda x: layers.max_pool(x, 2, 2)
        self.C5 = Conv(120, (5, 5), **options)
        self.F6 = nn.Dense(84, **options)
        if self.output == 'dense':
            self.dense = nn.Dense(self.num_classes, **options)

    def __call__(self, images, train=False, dense=False):
        net = self.layers(train)
        scores = net.named('output', self.classify(self.maps(images)))
        return scores if dense else net.one_cell(scores)

    @property
    def head_has_no_parameters(self):
        """Whether `classify` has no parameters: then SDLM's curvature starts at `features` (`training.sdlm`)."""
        return self.output == 'rbf'

    def features(self, images):
        """Return the activations of F6, [B, 84], for images of the training size."""
        return self.maps(images)[:, 0, 0]

    def maps(self, images):
        """Return the activations of F6 at every position, [B, H', W', 84]."""
        net, x = self.layers(False), images
        net.check_size(x, 32)
        for name in ('C1', 'S2', 'C3', 'S4', 'C5', 'F6'):
            x = net.named(name, net.activate(name, getattr(self, name)(x)))
        return x

    def classify(self, features):
        """Compute the output units from the activations of F6: [..., 84] -> [..., num_classes]."""
        if self.output == 'dense':
            return self.dense(features)
        return -rbf_penalties(features, jnp.asarray(BITMAPS[: self.num_classes], self.dtype))


class Subsampling(nn.Module):
    """S2 and S4: the SUM of each 2x2 block times a trainable coefficient per map, plus a trainable bias."""

    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        maps = (x.shape[-1],)
        coefficient = self.param('coefficient', layers.uniform_fan_in(2.4, fan_in=4.0), maps, self.param_dtype)
        bias = self.param('bias', nn.initializers.zeros, maps, self.param_dtype)
        coefficient, bias = (layers.per_map(p.astype(x.dtype)) for p in (coefficient, bias))
        return layers.sum_pool_2x2(x) * coefficient + bias


class TableConv(nn.Module):
    """A 5x5 convolution in which each output map reads the input maps that a table names (C3, Table I).

    Only existing connections are parameters: `kernel` is [5, 5, number of connections], in the table's order.
    """

    table: tuple
    init_power: float = 1.0
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        inputs = x.shape[-1]
        fan_in = np.concatenate([[25.0 * len(row)] * len(row) for row in self.table])
        init = layers.uniform_fan_in(2.4, self.init_power, fan_in=fan_in[None, None])
        kernel = self.param('kernel', init, (5, 5, len(fan_in)), self.param_dtype)
        bias = self.param('bias', nn.initializers.zeros, (len(self.table),), self.param_dtype)
        connection = np.full((inputs, len(self.table)), len(fan_in))  # no connection: the zero that is appended
        connection[np.concatenate(self.table), np.repeat(np.arange(len(self.table)), [len(r) for r in self.table])] = (
            np.arange(len(fan_in))
        )
        dense = jnp.pad(kernel, ((0, 0), (0, 0), (0, 1)))[:, :, connection]
        x, dense, bias = (a.astype(self.dtype) for a in (x, dense, bias))
        return layers.convolution(x, dense, (1, 1), 'VALID') + layers.per_map(bias)


@jax.named_call
def rbf_penalties(x, centers):
    """Compute Eq. 7, y_i = sum_j (x_j - w_ij)^2: [..., 84] and [classes, 84] -> [..., classes]."""
    return jnp.sum((jnp.expand_dims(x, -2) - centers.reshape((1,) * (x.ndim - 1) + centers.shape)) ** 2, axis=-1)


# The targets of F6: each class as a stylized 7x12 bitmap, +1 for ink and -1 for background. The paper shows its own in
# figure 3 but prints no table. These are ours; any two differ in at least 27 pixels.
_GLYPHS = """
..###.. ...##.. .####.. ####### #...#.. ####### ....##. ####### ..###.. ..#####
.#...#. ..###.. ######. ####### #...#.. ##..... ...##.. ......# .##.##. .##..##
#.....# .####.. #....## ....##. #...#.. ##..... ..##... .....## .#...#. ##...##
#.....# ...##.. .....## ...##.. #...#.. ##..... .##.... .....#. .##.##. ##...##
#.....# ...##.. ....##. ..##... #...#.. ######. ##..... ....##. ..###.. ##...##
#.....# ...##.. ...##.. ..####. ####### #####.. ##.###. ....#.. ..###.. .##..##
#.....# ...##.. ..##... .....## ####### ....### ###..## ...##.. .##.##. ..#####
#.....# ...##.. .##.... ......# ....#.. .....## ##...## ...#... ##...## .....##
#.....# ...##.. ##..... ......# ....#.. .....## ##...## ...#... #.....# .....##
#.....# ...##.. ##..... #.....# ....#.. .....#. ##...## ..##... ##...## .....##
.#...#. .###### ####### ##...## ....#.. #####.. .##.##. ..#.... .##.##. .....##
..###.. .###### ####### .#####. ....#.. ###.... ..###.. ..#.... ..###.. .....##
"""


def _bitmaps():
    rows = [row.split() for row in _GLYPHS.strip().splitlines()]
    drawings = [''.join(row[digit] for row in rows) for digit in range(10)]
    return np.array([[1.0 if pixel == '#' else -1.0 for pixel in drawing] for drawing in drawings])


BITMAPS = _bitmaps()


PAPER = Paper(
    'LeCun et al.', 1998, 'Gradient-Based Learning Applied to Document Recognition', 'Proceedings of the IEEE 86(11)'
)
_entry = functools.partial(Entry, paper=PAPER, family='LeNet', input_shape=(32, 32, 1))

NETWORKS = {
    'lenet5': _entry(
        LeNet5, parameters=61_706, multiply_adds=416_520, unpublished=True,
        notes=("Caffe's LeNet is another network, `lenet_caffe`: 28x28 images, 20 and 50 maps, 500 hidden units.",),
    ),
    'lenet5_1998': _entry(
        LeNet51998, parameters=60_000, multiply_adds=325_680,
        notes=("With `pool='max'`, `c3='full'`, `output='dense'` it has the layers of `lenet5`: 61,706 parameters.",),
    ),
    'lenet_caffe': _entry(
        LeNetCaffe, input_shape=(28, 28, 1), parameters=431_080, multiply_adds=2_293_000, unpublished=True,
        theirs=(Theirs('caffe', 'lenet_iter_10000'),),
        notes=('It is the network of Caffe\'s examples/mnist; torchvision and timm do not have it.',),
    ),
}  # fmt: skip

"""PReLU-nets: He, Zhang, Ren, Sun, "Delving Deep into Rectifiers", 2015."""

import functools

import flax.linen as nn

from architectures import layers
from architectures.entry import Entry, Paper
from architectures.layers import Network

# Table 3: (features, convolutions) of the stages at 56, 28 and 14.
MODELS = {
    'A': ((256, 5), (512, 5), (512, 5)),
    'B': ((256, 6), (512, 6), (512, 6)),
    'C': ((384, 6), (768, 6), (896, 6)),
}
PYRAMID = (7, 3, 2, 1)  # 63 bins


class PReLUNet(Network):
    """Models A, B and C (table 3): 178,032,072, 183,343,048 and 330,623,944 parameters.

    A PReLU with one slope per channel follows every layer but the last, and spatial pyramid pooling makes the last map
    a vector. Weights are initialized by Eq. 14, with the fan out. With `dense`, every 14x14 window of the last map goes
    through the pyramid; with `dense='whole'`, the whole map does, once (SPP-net's full-image view).

    Options: `model`, `dropout`, `side` (of that window: smaller for smaller training images; the pyramid then has only
    the levels that fit), `fc_initializer`. activation='relu' is the paper's comparison.

    Input [B, 224, 224, 3].
    """

    readings = ('whole',)

    activation: str = 'prelu'
    initializer: str = 'he_fan_out'
    fc_initializer: str = 'he_fan_out'
    model: str = 'A'
    dropout: float = 0.5
    side: int = 14

    @nn.compact
    def __call__(self, images, train=False, dense=False):
        layers.choose('model', self.model, MODELS)
        net = self.layers(train)
        x = net.conv('conv1', images, 96, 7, stride=2, padding=3)
        for stage, (features, count) in enumerate(MODELS[self.model], start=2):
            x = net.max_pool(f'pool{stage - 1}', x, 2, 2)
            for number in range(1, count + 1):
                x = net.conv(f'conv{stage}_{number}', x, features, 3, padding=1)
        net.check_size(x, self.side)
        levels = tuple(level for level in PYRAMID if level <= self.side)
        window = x.shape[1:3] if dense == 'whole' else (self.side, self.side)
        x = net.named('spp', layers.spatial_pyramid(x, levels, *window))
        x = net.dropout(net.fc('fc1', x, 4096, init=self.fc_initializer), self.dropout)
        x = net.dropout(net.fc('fc2', x, 4096, init=self.fc_initializer), self.dropout)
        return net.logits('fc3', x, dense, init=self.fc_initializer)


PAPER = Paper(
    'He et al.', 2015, 'Delving Deep into Rectifiers: Surpassing Human-Level Performance on ImageNet Classification',
    'ICCV 2015, arXiv:1502.01852',
)  # fmt: skip
_entry = functools.partial(Entry, PReLUNet, paper=PAPER, family='PReLU-net')

NETWORKS = {
    'prelu_net_a': _entry(options={'model': 'A'}, parameters=178_032_072, multiply_adds=19_058_106_368),
    'prelu_net_b': _entry(options={'model': 'B'}, parameters=183_343_048, multiply_adds=23_219_904_512),
    'prelu_net_c': _entry(options={'model': 'C'}, parameters=330_623_944, multiply_adds=53_463_130_112),
}

"""Ten training steps in PyTorch from weights computed by a rule, to compare with ours without PyTorch.

A file here tells a network that torchvision has too, the optimizer's settings, and what training came to there: the
loss of each step, and of every parameter and batch statistic after the last its norm, how far it moved, and sampled
entries. `make_steps.py` wrote it; `tests/test_step_parity.py` reads it. Weights and batches are not stored: both sides
make them by rule.
"""

import dataclasses
import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import architectures
import golden
from architectures import layers
from training import losses, optimizers, schedules, step

FOLDER = Path(__file__).parent
IMAGE_SHAPE = (224, 224, 3)
CLASSES = np.array([3, 250, 500, 999], np.int32)
STEPS = 10
DROP = 5  # the first step with the lower rate
SAMPLES = 32
LOSS_TOLERANCE = 1e-4  # relative
TOLERANCE = 1e-3  # of a tensor, relative to it
MOVE_TOLERANCE = 0.05  # of what the steps added to a tensor, relative to that; float32 alone makes up to 0.02


@dataclasses.dataclass(frozen=True)
class Setting:
    """A network and how it is trained.

    Attributes:
      network: our name.
      options: that make ours the peer, without dropout: its draws are not PyTorch's.
      optimizer: 'momentum' or 'nesterov'.
      momentum, weight_decay: its own, the decay of all parameters.
      rates: the learning rate before and from `DROP`.
      tempered: {end of a variable's name: (factor, shift)}, see `variables`.
    """

    network: str
    options: dict
    optimizer: str
    momentum: float
    weight_decay: float
    rates: tuple
    tempered: dict


@dataclasses.dataclass(frozen=True)
class Record:
    """What came of a setting in PyTorch; a row a tensor, in the order of the leaves of ours.

    Attributes:
      setting: that was trained.
      source: which peer, of which version.
      losses: float32 [STEPS], each before its update.
      norms: float32 [tensors], after the last step.
      moves: float32 [tensors], the norms of what the steps added.
      samples: float32 [tensors, SAMPLES], entries after the last step.
    """

    setting: Setting
    source: str
    losses: np.ndarray
    norms: np.ndarray
    moves: np.ndarray
    samples: np.ndarray

    def save(self, name):
        arrays = {key: np.float32(getattr(self, key)) for key in ('losses', 'norms', 'moves', 'samples')}
        setting = json.dumps(dataclasses.asdict(self.setting))
        np.savez_compressed(FOLDER / f'{name}.npz', setting=setting, source=self.source, **arrays)


def names():
    """The names of the files, sorted."""
    return sorted(path.stem for path in FOLDER.glob('*.npz'))


def load(name):
    """The record of that name."""
    with np.load(FOLDER / f'{name}.npz') as file:
        setting = json.loads(str(file['setting']))
        arrays = {key: file[key] for key in ('losses', 'norms', 'moves', 'samples')}
        return Record(Setting(**setting), str(file['source']), **arrays)


def batch(number):
    """The batch of step `number`: an image of each class, each time in another order.

    A class is a pattern of 8x8 patches that all its images have; noise on each pixel tells them apart. So there is
    something to learn in ten steps.
    """
    height, width, channels = IMAGE_SHAPE
    size = len(CLASSES)
    patterns = golden.uniform('patterns', (size, 8, 8, channels)).repeat(height // 8, 1).repeat(width // 8, 2)
    noise = golden.uniform(f'noise of step {number}', (size, *IMAGE_SHAPE))
    order = (np.arange(size) + number) % size
    return {
        'image': np.float32(np.sqrt(1.5)) * (patterns[order] + noise),
        'label': CLASSES[order],
        'mask': np.ones(size, bool),
        'bad': np.zeros(size, bool),
        'index': order.astype(np.int32),
        'epoch': np.full(size, number, np.int32),
    }


def create(setting):
    """The network of a setting."""
    return architectures.create(setting.network, **setting.options)


def variables(setting):
    """The initial variables of a setting: golden's, tempered.

    Golden's (He et al. 2015a) are for one pass. From there AlexNet starts at a loss of 17, and four images at a rate of
    0.01 throw it to infinity. ResNet-18 learns, but in ten steps PyTorch's float32 leaves PyTorch's float64 by 1e-2 of
    the loss, and ours does: sums differ in order, a few units in a million fall on the other side of a ReLU or of a max
    pool, and each of them changes the gradient by its whole share. From milder weights, which `make_steps.py` chooses,
    the losses fall and little of that is amplified: float32 and float64 part by about 1e-5 at most.
    """

    def temper(path, value):
        name = golden.name_of(path)
        for end, (factor, shift) in setting.tempered.items():
            if name.endswith(end):
                value = np.float32(factor) * value + np.float32(shift)
        return value

    return jax.tree_util.tree_map_with_path(temper, golden.variables(create(setting), IMAGE_SHAPE))


def places(name, size):
    """The positions of the samples in the tensor of that name."""
    return ((golden.uniform(f'places in {name}', (SAMPLES,)).astype(np.float64) + 1) / 2 * size).astype(np.int64)


def measure(before, after):
    """(norms, moves, samples) of `Record`, from trees of variables before the first step and after the last."""
    rows = []
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        old, new = np.ravel(old), np.ravel(new)
        rows.append((np.linalg.norm(new), np.linalg.norm(new - old), new[places(golden.name_of(path), new.size)]))
    return tuple(np.array(column) for column in zip(*rows, strict=True))


def train(setting, initial):
    """Our losses of the ten steps, and the variables after them, from the program that a run trains with."""
    model = create(setting)
    optimizer = optimizers.create(setting.optimizer, setting.momentum, setting.weight_decay)
    before, after = setting.rates
    schedule = schedules.steps_of_rates([(DROP, before), (1, after)], lambda steps: steps)  # the last rate holds on
    one = functools.partial(
        step.train_step,
        model=model,
        loss=losses.cross_entropy,
        optimizer=optimizer,
        preprocess=lambda batch: batch['image'],
        seed=0,
        rate=lambda step, controller: schedule(step),
    )
    advance = jax.jit(one, donate_argnums=0, compiler_options=layers.compiler_options())
    initial = jax.tree.map(jnp.array, initial)  # its own copy: each step eats the state it is given
    now = step.TrainState(
        step=jnp.zeros((), jnp.int32),
        params=initial['params'],
        batch_stats=initial.get('batch_stats', {}),
        opt_state=optimizer.init(initial['params']),
        order_digest=jnp.zeros((), jnp.uint32),
        window=step.zero_totals(),
        epoch=step.zero_totals(),
        controller={},
        average={},
    )
    values = []
    for number in range(STEPS):
        now = advance(now.replace(window=step.zero_totals()), batch(number))
        values.append(now.window['loss'] / now.window['count'])
    return np.array(values), jax.tree.map(np.asarray, {kind: now.variables[kind] for kind in initial})

"""Writes the records of training: `python tests/golden/make_steps.py [NAME ...]`, by hand, with
`requirements-reference.txt`.

For each network it gives PyTorch's and ours the same weights, trains both for ten steps on the same batches, and stores
what PyTorch's came to. It compares the whole of every tensor, where the test has samples, prints a line a record, and
exits 1 where ours and theirs disagree.
"""

import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # golden
sys.path.insert(0, str(Path(__file__).parents[2]))  # the project
os.environ['JAX_PLATFORMS'] = 'cpu'

import jax
import numpy as np
import torch
from make import load, peer, read, torchvision

import golden
from benchmarks import peers
from golden import steps


def setting(network, tempered, optimizer='momentum', weight_decay=5e-4, rate=0.01, **options):
    """A setting with the options that make ours the peer."""
    options = peers.PEERS[network][2] | options
    return steps.Setting(network, options, optimizer, 0.9, weight_decay, (rate, rate / 10), tempered)


# Without batch norm the logits and their gradients grow with every kernel, so these start below He's scale. VGG-A still
# falls off a cliff at a rate of 0.01, all its layers growing at once, and float32 with it (6e-4 of the loss, PyTorch
# against PyTorch); at 0.003, from a last layer that starts small, it falls as far as float32 can be told (5e-6).
# ResNet-18's last layer starts small too, its branches add little, and batch norm's biases hold most units off the
# ReLU's kink.
RESNET_TEMPER = {'fc/kernel': (0.3, 0.0), '_bn/scale': (0.5, 0.0), '_bn/bias': (1.0, 0.3)}
SETTINGS = {
    'alexnet_owt': setting('alexnet_owt', {'kernel': (0.5, 0.0)}, dropout=0.0),
    'vgg_a': setting('vgg_a', {'kernel': (0.7, 0.0), 'fc8/kernel': (0.2, 0.0)}, rate=0.003, dropout=0.0),
    'resnet18': setting('resnet18', RESNET_TEMPER, weight_decay=1e-4),
    'resnet18_nesterov': setting('resnet18', RESNET_TEMPER, 'nesterov', weight_decay=1e-4),
}


def train(setting, initial):
    """Their losses of the ten steps, and the variables after them, under our names and in our shapes."""
    case = peer(setting.network)
    net = case.create().train()
    for module in net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    load(net, initial, case.layer_name)
    optimizer = torch.optim.SGD(
        net.parameters(),
        setting.rates[0],
        setting.momentum,
        weight_decay=setting.weight_decay,
        nesterov=setting.optimizer == 'nesterov',
    )
    losses = []
    for number in range(steps.STEPS):
        optimizer.param_groups[0]['lr'] = setting.rates[number >= steps.DROP]
        batch = steps.batch(number)
        images = torch.from_numpy(np.ascontiguousarray(batch['image'].transpose(0, 3, 1, 2)))
        loss = torch.nn.functional.cross_entropy(net(images), torch.from_numpy(batch['label']).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return np.array(losses, np.float32), read(net, initial, case.layer_name)


def apart(ours, theirs, scale):
    """(norm of the difference relative to that of `scale`, name) of the tensor where that is largest."""
    errors = jax.tree.map(lambda a, b, c: np.linalg.norm(a - b) / np.linalg.norm(c), ours, theirs, scale)
    paths, errors = zip(*jax.tree_util.tree_leaves_with_path(errors), strict=True)
    worst = np.argmax(errors)  # NaN, if there is one
    return errors[worst], golden.name_of(paths[worst])


def make(name):
    """Makes one record; returns whether ours and theirs agree."""
    setting = SETTINGS[name]
    initial = steps.variables(setting)
    clock = time.monotonic()
    losses, theirs = train(setting, initial)
    source = f'torchvision {peers.PEERS[setting.network][1]}; torch {torch.__version__}, '
    source += f'torchvision {torchvision.__version__}'
    steps.Record(setting, source, losses, *steps.measure(initial, theirs)).save(name)
    their_time, clock = time.monotonic() - clock, time.monotonic()
    our_losses, ours = steps.train(setting, initial)
    our_time = time.monotonic() - clock
    loss = np.max(np.abs(our_losses - losses) / losses)
    moved = jax.tree.map(np.subtract, theirs, initial)
    (tensor, which), (change, whose) = apart(ours, theirs, theirs), apart(ours, theirs, moved)
    least = min(jax.tree.leaves(jax.tree.map(lambda a, b: np.linalg.norm(a) / np.linalg.norm(b), moved, theirs)))
    agree = loss <= steps.LOSS_TOLERANCE and tensor <= steps.TOLERANCE
    print(
        f'{name:18} losses {loss:.1e}  tensors {tensor:.1e} ({which})  of what they moved {change:.1e} ({whose})  '
        f'moved least {least:.1e}  loss {losses[0]:.2f} to {losses[-1]:.2f}  {their_time:.0f} s, ours {our_time:.0f} s'
        f'{"" if agree else "  DISAGREE"}',
        flush=True,
    )
    return agree


if __name__ == '__main__':
    agreed = [make(name) for name in sys.argv[1:] or SETTINGS]
    sys.exit(0 if all(agreed) else 1)

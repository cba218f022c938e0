"""Writes `files/`: `python tests/golden/make_files.py`, by hand, with `requirements-reference.txt`.

Small files of `torch.save`, of both forms, for tests of a reader that has no PyTorch.
"""

import argparse
from pathlib import Path

import torch

FOLDER = Path(__file__).parent / 'files'


def tensors():
    """A state dict with what state dicts hold: views, halves, counters, a shared storage."""
    whole = torch.arange(24, dtype=torch.float32)
    return {
        'plain.weight': torch.arange(6, dtype=torch.float32).reshape(2, 3),
        'view.weight': whole[4:16].reshape(3, 4).t(),
        'same.weight': whole[4:16].reshape(3, 4),
        'half.weight': torch.tensor([0.5, -1.5], dtype=torch.float16),
        'bfloat16.weight': torch.tensor([0.5, -1.5], dtype=torch.bfloat16),
        'double.weight': torch.tensor([1 / 3], dtype=torch.float64),
        'norm.num_batches_tracked': torch.tensor(7),
        'empty.weight': torch.zeros(0, 3),
    }


if __name__ == '__main__':
    FOLDER.mkdir(exist_ok=True)
    layer = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3))
    with torch.no_grad():
        for number, value in enumerate(layer.state_dict().values()):
            value.copy_(torch.full_like(value, number))
    checkpoint = {'epoch': 3, 'best': 0.5, 'arch': 'x', 'state_dict': layer.state_dict(), 'optimizer': {'lr': [0.1]}}
    for form, options in (('zip', {}), ('legacy', {'_use_new_zipfile_serialization': False})):
        torch.save(tensors(), FOLDER / f'tensors_{form}.pth', **options)
        torch.save(checkpoint, FOLDER / f'checkpoint_{form}.pth', **options)
    torch.save({'args': argparse.Namespace(lr=0.1), 'state_dict': layer.state_dict()}, FOLDER / 'namespace.pth')
    torch.save(layer, FOLDER / 'module.pth')

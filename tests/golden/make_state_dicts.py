"""Writes `state_dicts.txt`: `python tests/golden/make_state_dicts.py`, by hand, with `requirements-reference.txt`.

For each release of torchvision and timm (`weights/releases.py`) it makes their network, fills it with our weights by
the rule of `golden.fill`, named and laid out as we export them, and notes a digest of the state dict that the network
then has: names, shapes and values. PyTorch takes every tensor (strict), so that what has this digest is what it reads.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # golden
sys.path.insert(0, str(Path(__file__).parents[2]))  # the project

import torch

import architectures
import golden
from benchmarks import peers
from weights import convert, exporting
from weights.releases import RELEASES

torchvision = peers.torchvision()  # before timm, which imports it
import timm  # noqa: E402


def network(release):
    """Theirs."""
    if release.by == 'torchvision':
        if release.theirs == 'densenet264':
            return torchvision.models.DenseNet(32, (6, 12, 64, 48), 64)
        return getattr(torchvision.models, release.theirs)()
    return timm.create_model(release.theirs)


if __name__ == '__main__':
    lines = []
    for arch, releases in RELEASES.items():
        for release in releases:
            if release.by not in ('torchvision', 'timm', 'timm_legacy'):
                continue
            model = architectures.create(arch, **release.options)
            ours = exporting.state_dict(arch, model, golden.variables(model, convert.input_shape(release)), release)
            net = network(release)
            net.load_state_dict({name: torch.from_numpy(value) for name, value in ours.items()}, strict=True)
            theirs = {name: value.numpy() for name, value in net.state_dict().items()}
            lines.append(f'{arch} {release.by} {release.theirs} {len(theirs)} {golden.digest(theirs)}')
            print(lines[-1], flush=True)
    golden.STATE_DICTS.write_text(
        f'# torch {torch.__version__}, torchvision {torchvision.__version__}, timm {timm.__version__}\n'
        + '\n'.join(lines)
        + '\n'
    )

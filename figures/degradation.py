"""Deeper plain networks learn worse, deeper residual ones better (He et al. 2015, figures 1 and 6)."""

import json
import re
from pathlib import Path
from typing import NamedTuple

from configs import checkpoint as checkpoint_config
from figures import style
from runtime.errors import UserError
from training import log
from weights import passport

_ROOM = 2.5  # of the worst last test error: what is above is cut off, as the paper's figure does
_KINDS = {'resnet': 'residual'}


class Curves(NamedTuple):
    """A run's errors, in per cent.

    Fields:
      name: its network.
      dataset: its data.
      train: [(step, error)], the mean of each epoch, as training saw the images.
      test: [(step, top-1 error)], of each epoch's end.
      epochs: how many are done.
      finished: whether these were all.
    """

    name: str
    dataset: str
    train: list
    test: list
    epochs: int
    finished: bool


def make(out, checkpoint):
    """Draws training and test error against iterations, a panel for each kind of network.

    Args:
      out: the file.
      checkpoint: workdirs of runs.

    Raises:
      UserError: see `curves_of`.
    """
    runs = [curves_of(workdir) for workdir in checkpoint]
    kinds = list(dict.fromkeys(_kind(run.name) for run in runs))
    with style.look():
        made = style.figure(max(8, 6.5 * len(kinds)), 6)
        panels = made.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for panel, kind in zip(panels, kinds, strict=True):
            for colour, run in zip(style.CYCLE, [run for run in runs if _kind(run.name) == kind], strict=False):
                _curves(panel, run, colour)
            panel.set_xlim(left=0)
            panel.set(xlabel='iterations', title=f'{_KINDS.get(kind, kind)} networks')
            panel.grid(axis='y', alpha=0.3)
            panel.legend(fontsize=11, title='test (bold), training (dashed) error at the end', title_fontsize=11)
        panels[0].set_ylabel('error, %')
        top = min(
            _ROOM * max(run.test[-1][1] for run in runs), max(max(run.train + run.test, key=_error)[1] for run in runs)
        )
        panels[0].set_ylim(0, top)
        made.suptitle(f'Training and test error on {", ".join(dict.fromkeys(run.dataset for run in runs))}')
        style.save(made, out)


def curves_of(workdir):
    """The `Curves` of a run's log.

    Raises:
      UserError: the folder has no log of a run with a finished epoch; it says which run to make.
    """
    place = Path(workdir) / 'config.json'
    rows = log.read(workdir)
    epochs = [row for row in rows if row['kind'] == 'epoch']
    if not epochs or not place.is_file():
        network = json.loads(place.read_text())['architecture'] if place.is_file() else ''
        converted = (Path(workdir) / passport.NAME).is_file()  # its folder is not to be trained into
        hint = checkpoint_config.training_hint(f'runs/{network}' if converted else workdir, network)
        raise UserError(f'{workdir} holds no metrics of a finished epoch ({log.NAME}): {hint}')
    config = json.loads(place.read_text())
    return Curves(
        config['architecture'],
        config['dataset'],
        [(row['step'], row['train_error']) for row in epochs],
        [(row['step'], row['test_top1_error']) for row in epochs],
        epochs[-1]['epoch'],
        any(row['kind'] == 'finished' for row in rows),
    )


def _kind(name):
    """plain of plain20, resnet of resnet56."""
    return re.sub(r'[_\d].*', '', name)


def _error(place):
    return place[1]


def _curves(panel, run, colour):
    ends = f'{run.test[-1][1]:.2f}, {run.train[-1][1]:.2f}'
    state = f'{run.epochs} epochs' if run.finished else f'{run.epochs} epochs so far'
    panel.plot(*zip(*run.train, strict=True), '--', color=colour, linewidth=1.5)
    panel.plot(*zip(*run.test, strict=True), color=colour, linewidth=3, label=f'{run.name}: {ends} ({state})')

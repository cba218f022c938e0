"""Training and test curves of plain and residual networks (He et al. 2015, figures 1 and 6).

Deeper plain networks learn worse, deeper residual ones better.
"""

import re
from pathlib import Path
from typing import NamedTuple

from figures import style
from runtime import stored_config
from runtime.errors import UserError
from training import log
from weights import passport

_ROOM = 2.5  # the axis ends at this multiple of the worst final test error, as in the paper's figure
_KINDS = {'resnet': 'residual'}


class Curves(NamedTuple):
    """Errors of a run, in percent.

    Fields:
      name: its network.
      dataset: its data set.
      train: [(step, error)], the mean over each epoch, on the augmented images.
      test: [(step, top-1 error)] at the end of each epoch.
      epochs: number of epochs so far.
      finished: whether the run is finished.
    """

    name: str
    dataset: str
    train: list
    test: list
    epochs: int
    finished: bool


def make(out, checkpoint):
    """Draw training and test error over iterations, one panel per kind of network.

    Args:
      out: path of the figure.
      checkpoint: workdirs of runs.

    Raises:
      UserError: see `curves_of`.
    """
    runs = [curves_of(workdir) for workdir in checkpoint]
    kinds = list(dict.fromkeys(_kind(run.name) for run in runs))
    with style.look():
        figure = style.figure(max(8, 6.5 * len(kinds)), 6)
        panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
        for panel, kind in zip(panels, kinds, strict=True):
            for color, run in zip(style.CYCLE, [run for run in runs if _kind(run.name) == kind], strict=False):
                _curves(panel, run, color)
            panel.set_xlim(left=0)
            panel.set(xlabel='iterations', title=f'{_KINDS.get(kind, kind)} networks')
            panel.grid(axis='y', alpha=0.3)
            panel.legend(fontsize=11, title='test (bold), training (dashed) error at the end', title_fontsize=11)
        panels[0].set_ylabel('error, %')
        top = min(
            _ROOM * max(run.test[-1][1] for run in runs), max(max(run.train + run.test, key=_error)[1] for run in runs)
        )
        panels[0].set_ylim(0, top)
        figure.suptitle(f'Training and test error on {", ".join(dict.fromkeys(run.dataset for run in runs))}')
        style.save(figure, out)


def curves_of(workdir):
    """Return the `Curves` of a run, from its log.

    Raises:
      UserError: if the folder has no log with a finished epoch; the message names the command of such a run.
    """
    config_file = Path(workdir) / stored_config.NAME
    rows = log.read(workdir)
    epochs = [row for row in rows if row['kind'] == 'epoch']
    config = stored_config.get_config(workdir) if config_file.exists() else None
    if not epochs or config is None:
        network = config.architecture if config else ''
        converted = (Path(workdir) / passport.NAME).is_file()  # do not train into its folder
        command = stored_config.training_hint(f'runs/{network}' if converted else workdir, network)
        raise UserError(f'{workdir} holds no metrics of a finished epoch ({log.NAME}): {command}')
    return Curves(
        config.architecture,
        config.dataset,
        [(row['step'], row['train_error']) for row in epochs],
        [(row['step'], row['test_top1_error']) for row in epochs],
        epochs[-1]['epoch'],
        any(row['kind'] == 'finished' for row in rows),
    )


def _kind(name):
    """Return the kind of a network: 'plain' for plain20, 'resnet' for resnet56."""
    return re.sub(r'[_\d].*', '', name)


def _error(point):
    return point[1]


def _curves(panel, run, color):
    ends = f'{run.test[-1][1]:.2f}, {run.train[-1][1]:.2f}'
    state = f'{run.epochs} epochs' if run.finished else f'{run.epochs} epochs so far'
    panel.plot(*zip(*run.train, strict=True), '--', color=color, linewidth=1.5)
    panel.plot(*zip(*run.test, strict=True), color=color, linewidth=3, label=f'{run.name}: {ends} ({state})')

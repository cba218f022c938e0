"""Parameters to the paper's number. `open_checkpoint`, then `test`; `evaluate` is both, for one checkpoint."""

from evaluation.opening import open_checkpoint, open_members, under
from evaluation.testing import test

__all__ = ['evaluate', 'open_checkpoint', 'open_members', 'test', 'under']


def evaluate(config, checkpoint, which='best', protocol='single'):
    """The result (`testing.test`) of a checkpoint (`opening.open_checkpoint`) on the config's test split."""
    return test(config, open_checkpoint(config, checkpoint, which, protocol))[0]

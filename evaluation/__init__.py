"""From parameters to the paper's number: `open_checkpoint`, then `evaluate`; `load` is a network to use from Python."""

from runtime import interrupts  # first, so that Ctrl-C is handled from here on

if interrupts.runs_as_module(__name__):
    interrupts.listen('list')

from evaluation.checkpoint import open_checkpoint, open_members, with_protocol
from evaluation.classifier import Classifier, load
from evaluation.evaluator import evaluate

__all__ = ['Classifier', 'evaluate', 'load', 'open_checkpoint', 'open_members', 'with_protocol']

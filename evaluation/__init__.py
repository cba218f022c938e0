"""From parameters to the paper's number: `open_checkpoint`, then `evaluate`."""

from evaluation.checkpoint import open_checkpoint, open_members, with_protocol
from evaluation.evaluator import evaluate

__all__ = ['evaluate', 'open_checkpoint', 'open_members', 'with_protocol']

"""Experiment trackers, which also get the numbers of a run's log: `--config.tracker=wandb` or `mlflow`.

A tracker is sent the config and the numbers of the log, and nothing else: no code, no output, no usage of the machine.
Its own environment variables say where it sends them (`WANDB_MODE`, `MLFLOW_TRACKING_URI`).
"""

import importlib.util
import json
import os

from configs import base
from runtime import distributed
from runtime.errors import UserError

# Unless the user's environment says otherwise: a project for all runs, no output, code and errors to the makers of the
# tracker, no telemetry, and a short wait for a server that does not answer.
_ENVIRONMENT = {
    'WANDB_PROJECT': 'imagenet-decade', 'WANDB_CONSOLE': 'off', 'WANDB_SILENT': 'true', 'WANDB_DISABLE_CODE': 'true',
    'WANDB_DISABLE_GIT': 'true', 'WANDB_ERROR_REPORTING': 'false', 'MLFLOW_EXPERIMENT_NAME': 'imagenet-decade',
    'MLFLOW_DISABLE_TELEMETRY': 'true', 'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '2', 'MLFLOW_HTTP_REQUEST_TIMEOUT': '10',
}  # fmt: skip


class WandB:
    """A run of Weights & Biases, below `folder` too."""

    def __init__(self, folder, values, run_id):
        import wandb

        self._run = wandb.init(id=run_id, resume='allow', name=folder.name, config=values, dir=folder)
        self._run.define_metric('*', step_metric='step')  # its own count of steps takes no step twice
        self.run_id = self._run.id

    def write(self, step, numbers):
        """Add {name: number} of a step."""
        self._run.log({'step': step, **numbers})

    def close(self, is_finished):
        """End this process's part of the run."""
        self._run.finish(exit_code=0 if is_finished else 1)


class MLflow:
    """A run of MLflow."""

    def __init__(self, folder, values, run_id):
        import mlflow

        self._mlflow = mlflow
        self.run_id = mlflow.start_run(run_id, run_name=folder.name).info.run_id
        if not run_id:
            mlflow.log_params(values)

    def write(self, step, numbers):
        """Add {name: number} of a step."""
        self._mlflow.log_metrics(numbers, step)

    def close(self, is_finished):
        """End this process's part of the run."""
        self._mlflow.end_run('FINISHED' if is_finished else 'KILLED')


TRACKERS = {'wandb': WandB, 'mlflow': MLflow}  # by the name of the package


def check(tracker):
    """Raise UserError if the process that logs lacks the package of a tracker; '' is none."""
    if not tracker or not distributed.is_first():
        return
    spec = importlib.util.find_spec(tracker)
    if not spec or not spec.origin:  # without an origin it is a folder of that name
        raise UserError(f'tracker={tracker} needs the package {tracker}: pip install {tracker}')


def open_run(config, folder, run_id=None):
    """Return the tracked run of a config, in the run's `folder`; the one of an id continues."""
    for key, value in _ENVIRONMENT.items():
        os.environ.setdefault(key, value)
    return TRACKERS[config.tracker](folder, base.flat(json.loads(config.to_json_best_effort())), run_id)

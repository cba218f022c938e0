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

# Unless the user's environment says otherwise: one project for all runs; no question on the terminal, no code, output,
# machine or load of it, and no usage statistics for the tracker's makers; and a limit to how long the run waits for a
# server that does not answer.
_ENVIRONMENT = {
    'WANDB_PROJECT': 'imagenet-decade', 'WANDB_SILENT': 'true', 'WANDB_CONSOLE': 'off', 'WANDB_DISABLE_CODE': 'true',
    'WANDB_DISABLE_GIT': 'true', 'WANDB__SAVE_REQUIREMENTS': 'false', 'WANDB__DISABLE_META': 'true',
    'WANDB__DISABLE_MACHINE_INFO': 'true', 'WANDB__DISABLE_STATS': 'true', 'WANDB_ERROR_REPORTING': 'false',
    'WANDB_HOST': '', 'WANDB_INIT_TIMEOUT': '30', 'WANDB_FINISH_TIMEOUT': '60', 'WANDB_FINISH_TIMEOUT_RAISES': 'true',
    'MLFLOW_EXPERIMENT_NAME': 'imagenet-decade', 'MLFLOW_DISABLE_TELEMETRY': 'true',
    'MLFLOW_HTTP_REQUEST_MAX_RETRIES': '2', 'MLFLOW_HTTP_REQUEST_TIMEOUT': '10',
}  # fmt: skip


class WandB:
    """A run of Weights & Biases, below `folder` too."""

    def __init__(self, folder, values, run_id):
        import wandb

        self._run = wandb.init(id=run_id, resume='allow', name=folder.name, config=values, dir=folder)
        self._run.define_metric('*', step_metric='step')  # its own count of steps takes no step twice
        self.run_id, self.where = self._run.id, self._run.url or self._run.settings.sync_dir

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

        self._mlflow, self._client, self.where = mlflow, mlflow.MlflowClient(), mlflow.get_tracking_uri()
        if not run_id:  # `mlflow.start_run` would add the user and the state of git
            name = os.environ['MLFLOW_EXPERIMENT_NAME']
            known = self._client.get_experiment_by_name(name)
            experiment = known.experiment_id if known else self._client.create_experiment(name)
            run_id = self._client.create_run(experiment, run_name=folder.name).info.run_id
            mlflow.log_params(values, run_id=run_id)
        self.run_id = run_id
        self._client.update_run(run_id, 'RUNNING')

    def write(self, step, numbers):
        """Add {name: number} of a step."""
        self._mlflow.log_metrics(numbers, step, run_id=self.run_id)

    def close(self, is_finished):
        """End this process's part of the run."""
        self._client.set_terminated(self.run_id, 'FINISHED' if is_finished else 'KILLED')


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

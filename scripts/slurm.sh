#!/usr/bin/env bash
# Trains on GPU nodes of a Slurm cluster, from the project's folder:
#
#   sbatch --nodes=4 scripts/slurm.sh --config configs/resnet50.py --config.data_dir=DIR --workdir DIR
#
# All arguments go to train.py. Options of sbatch come before the script and override those below.
#
#SBATCH --job-name=decade
#SBATCH --nodes=2
#SBATCH --gpus-per-node=8
# One process per GPU, as JAX expects under Slurm: process i of a node uses its GPU i. Each must see all GPUs of the
# node, so do not set --gpus-per-task.
#SBATCH --ntasks-per-node=8
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
# SIGTERM to the processes two minutes before the time limit: they save and exit with 143.
#SBATCH --signal=TERM@120
# After a preemption or a node failure, Slurm restarts the job automatically.
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
set -euo pipefail

usage='usage: sbatch [OPTION_OF_SBATCH ...] scripts/slurm.sh --config CONFIG --workdir DIR [TRAINING_FLAG ...]

  --config, --workdir, --config.KEY=VALUE, ...   go to train.py; all nodes must see the workdir
  PYTHON=.venv/bin/python sbatch ...             another Python (default: python)

The job is requeued until the run is finished; scancel ends it. The log is decade-JOB.log.'

fail() {
    printf 'slurm.sh: error: %s\n' "$1" >&2
    exit 2
}

case ${1:-} in
    -h | --help)
        printf '%s\n' "$usage"
        exit 0
        ;;
    '') fail 'no config: pass --config configs/NAME.py and --workdir DIR; see --help' ;;
esac
[[ ${SLURM_JOB_ID:-} ]] || fail 'not running in a Slurm job: start it with sbatch'
[[ -f train.py ]] || fail "no train.py in $PWD: submit from the project's folder"

# Each process exits after writing its part of the checkpoint: an early exit must not kill the others.
code=0
srun --kill-on-bad-exit=0 "${PYTHON:-python}" train.py "$@" || code=$?

# 143 is a run that saved after SIGTERM. A canceled job is no longer running, and must not be requeued.
if ((code == 143)) && [[ $(squeue --noheader --format=%T --jobs="$SLURM_JOB_ID") == RUNNING ]]; then
    printf 'slurm.sh: saved; job %s resumes when it is scheduled again\n' "$SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"

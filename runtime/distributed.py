"""Several processes of one run: how they connect, agree, and end when one of them is lost.

JAX is imported inside the functions, because `initialize` must come before any other use of JAX.
"""

import ctypes
import glob
import importlib.util
import os
import signal
import sys

from runtime import interrupts
from runtime.errors import UserError

LOST_CODE = 75  # exit code for "try again" (EX_TEMPFAIL of sysexits), unlike 2 for errors that the user must fix
HEARTBEAT_SECONDS = 30  # a process silent for this long counts as lost, and the others end
LOST = (
    'another process of this run was lost; see its output, or its machine, for the reason. The same command on all '
    'machines resumes from the last checkpoint'
)


def launcher():
    """Return the name of the launcher of several processes, 'Slurm', 'Open MPI' or 'Cloud TPU', '' for a single one."""
    env = os.environ

    def number(key):
        return int(env[key]) if env.get(key, '').isdigit() else 1

    if 'SLURM_STEP_NODELIST' in env and number('SLURM_NTASKS') > 1:  # set by srun, not in the batch script around it
        return 'Slurm'
    if 'OMPI_MCA_orte_hnp_uri' in env and number('OMPI_COMM_WORLD_SIZE') > 1:
        return 'Open MPI'
    chips = glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*')
    platforms = env.get('JAX_PLATFORMS', '')
    if chips and importlib.util.find_spec('libtpu') and (not platforms or 'tpu' in platforms):
        return 'Cloud TPU'
    return ''


def is_one_of_several(coordinator, num_processes, process_id):
    """Return whether this process is one of several; raise UserError if the flags are incomplete or invalid."""
    if not coordinator and num_processes is None and process_id is None:
        return bool(launcher())
    if not coordinator or num_processes is None or process_id is None:
        raise UserError('--coordinator=HOST:PORT, --num_processes and --process_id must be set together')
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdigit():
        raise UserError(f'--coordinator must be HOST:PORT of process 0, not {coordinator!r}')
    if not 0 <= process_id < num_processes:
        raise UserError(
            f'--process_id must be 0 to {num_processes - 1} with --num_processes={num_processes}, not {process_id}'
        )
    return num_processes > 1


def initialize(coordinator, num_processes, process_id):
    """Connect to the other processes given by the flags or the environment.

    Raises:
      UserError: they cannot be reached.
    """
    import jax

    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    try:
        jax.distributed.initialize(
            coordinator or None, num_processes, process_id, heartbeat_timeout_seconds=HEARTBEAT_SECONDS
        )
    except (RuntimeError, ValueError) as error:
        where = coordinator or launcher()
        raise UserError(f'the other processes cannot be reached ({where}): {str(error).splitlines()[0]}') from None


def fork_worker(script):
    """Fork a worker and return in it; the parent waits and prints a line if the worker lost its peers.

    When a peer dies, JAX's runtime aborts a process, which then cannot print a message itself.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if not hasattr(os, 'fork'):  # Windows: only JAX's own message is printed
        return
    child = os.fork()
    if child == 0:
        if sys.platform == 'linux':
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with its parent
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches both
    for number in {*interrupts.numbers()} - {signal.SIGINT}:
        signal.signal(number, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGABRT:
        print(f'{script}: error: {LOST}', file=sys.stderr, flush=True)
        code = LOST_CODE
    os._exit(code if code >= 0 else 128 - code)


def is_first():
    """Return whether this is the process that writes and prints."""
    import jax

    return jax.process_index() == 0


def file_suffix():
    """Return the suffix for this process's files: '_1of4' for the second of four processes, '' for a single one."""
    import jax

    return f'_{jax.process_index()}of{jax.process_count()}' if jax.process_count() > 1 else ''


def largest(number):
    """Return the largest of the processes' numbers; all processes must call it, so it is also a barrier."""
    import jax

    if jax.process_count() == 1:
        return number
    import numpy as np
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def gathered(text):
    """Return the texts of all processes, in their order; all processes must call it."""
    import jax

    if jax.process_count() == 1:
        return [text]
    import numpy as np
    from jax.experimental import multihost_utils

    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int64(len(data)))
    padded = np.zeros(max(sizes.max(), 1), np.uint8)
    padded[: len(data)] = data
    every = multihost_utils.process_allgather(padded)
    return [row[:size].tobytes().decode() for row, size in zip(every, sizes, strict=True)]


class Together:
    """A context manager for work of the first process; if it fails, all processes end with an error.

    The first process does the work inside the `with`; the others wait at its end.
    """

    def __enter__(self):
        return is_first()

    def __exit__(self, kind, error, trace):
        if not largest(int(kind is not None)):
            return
        if kind is None:
            raise UserError('process 0 of this run could not start; see its output for the reason')

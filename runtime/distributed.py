"""Several processes that work as one: how they find each other, agree, and end when one of them is lost.

Nothing here imports JAX before it must: `begin` comes before any other call of it.
"""

import ctypes
import glob
import importlib.util
import os
import signal
import sys

from runtime.errors import UserError

LOST_CODE = 75  # of the exit: try again (sysexits' EX_TEMPFAIL), unlike 2, what a user must mend
HEARTBEAT_SECONDS = 30  # of silence; then a process counts as lost, and the others end
LOST = (
    'another process of this run was lost; its own output, or its machine, says why. The same command on all of them '
    'goes on from the last checkpoint'
)


def found():
    """What starts several processes here, by its name: 'Slurm', 'Open MPI', 'Cloud TPU', or '' for one alone."""
    env = os.environ

    def number(key):
        return int(env[key]) if env.get(key, '').isdigit() else 1

    if 'SLURM_STEP_NODELIST' in env and number('SLURM_NTASKS') > 1:  # of srun, not of the batch script around it
        return 'Slurm'
    if 'OMPI_MCA_orte_hnp_uri' in env and number('OMPI_COMM_WORLD_SIZE') > 1:
        return 'Open MPI'
    chips = glob.glob('/dev/accel*') or glob.glob('/dev/vfio/[0-9]*')
    platforms = env.get('JAX_PLATFORMS', '')
    if chips and importlib.util.find_spec('libtpu') and (not platforms or 'tpu' in platforms):
        return 'Cloud TPU'
    return ''


def check(coordinator, num_processes, process_id):
    """Whether this process is one of several; UserError where the flags are not whole."""
    if not coordinator and num_processes is None and process_id is None:
        return bool(found())
    if not coordinator or num_processes is None or process_id is None:
        raise UserError('--coordinator=HOST:PORT, --num_processes and --process_id are given together, or none of them')
    host, _, port = coordinator.rpartition(':')
    if not host or not port.isdigit():
        raise UserError(f'--coordinator is HOST:PORT of process 0, not {coordinator!r}')
    if not 0 <= process_id < num_processes:
        raise UserError(
            f'--process_id is 0 to {num_processes - 1} of --num_processes={num_processes}, not {process_id}'
        )
    return num_processes > 1


def begin(coordinator, num_processes, process_id):
    """Joins the other processes, as the flags or the environment say.

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
        where = coordinator or found()
        raise UserError(f'the other processes cannot be reached ({where}): {str(error).splitlines()[0]}') from None


def watched(script):
    """Splits off the process that does the work, and returns in it; this one waits, and says in a line how it ended.

    A process whose peer dies is ended by JAX's runtime, in the midst of whatever it does: it cannot say so itself.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    if not hasattr(os, 'fork'):  # Windows: then JAX's own words are all there is
        return
    child = os.fork()
    if child == 0:
        if sys.platform == 'linux':
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: it ends with the one that waits
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches both
    signal.signal(signal.SIGTERM, lambda number, _: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code == -signal.SIGABRT:
        print(f'{script}: error: {LOST}', file=sys.stderr, flush=True)
        code = LOST_CODE
    os._exit(code if code >= 0 else 128 - code)


def is_first():
    """Whether this is the process that writes and prints."""
    import jax

    return jax.process_index() == 0


def part():
    """'_1of4' of the second of four processes, '' of one alone."""
    import jax

    return f'_{jax.process_index()}of{jax.process_count()}' if jax.process_count() > 1 else ''


def largest(number):
    """The largest of the processes' numbers, known to all: each must ask at the same place."""
    import jax

    if jax.process_count() == 1:
        return number
    import numpy as np
    from jax.experimental import multihost_utils

    return int(np.max(multihost_utils.process_allgather(np.int32(number))))


def gathered(text):
    """The processes' texts, in their order, known to all."""
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
    """A stretch that the first process may fail in: then all of them end, each with a line.

    The first does the work inside the `with`; the others wait at its end until that is done.
    """

    def __enter__(self):
        return is_first()

    def __exit__(self, kind, error, trace):
        if not largest(int(kind is not None)):
            return
        if kind is None:
            raise UserError('process 0 of this run could not begin; its own output says why')

"""Several processes of one run: how they connect, agree, and end when one of them is lost.

JAX is imported inside the functions, because `initialize` must come before any other use of JAX.
"""

import ctypes
import errno
import faulthandler
import functools
import glob
import importlib.metadata
import importlib.util
import itertools
import json
import os
import signal
import socket
import sys
import zlib
from pathlib import Path

from runtime import interrupts, system
from runtime.errors import UserError, first_line

LOST_CODE = 75  # exit code for "try again" (EX_TEMPFAIL of sysexits), unlike 2 for errors that the user must fix
CONNECT_SECONDS = 300  # how long the processes wait for each other at the start
HEARTBEAT_SECONDS = 30  # a process silent for this long counts as lost, and the others end
LOST = (
    'another process of this run was lost; see its output, or its machine, for the reason. The same command on all '
    'machines resumes from the last checkpoint'
)
_LIBRARIES = ('jax', 'jaxlib', 'flax', 'optax', 'orbax-checkpoint', 'numpy')
_AGREE_SECONDS = 3600  # a process may be slow to list its images; one that has ended is noticed by its heartbeat
_OWN_FAULTS = ('RESOURCE_EXHAUSTED', 'INVALID_ARGUMENT', 'UNIMPLEMENTED')  # a failed program, without a lost peer
_SHORT = 80  # letters of a value that are sent and shown
_exchanges = itertools.count()


class Lost(Exception):
    """Another process of this run was lost."""


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
    if not host or not port.isdigit() or not 0 < int(port) < 2**16:
        raise UserError(f'--coordinator must be HOST:PORT of process 0, not {coordinator!r}')
    if not 0 <= process_id < num_processes:
        raise UserError(
            f'--process_id must be 0 to {num_processes - 1} with --num_processes={num_processes}, not {process_id}'
        )
    return num_processes > 1


def initialize(coordinator, num_processes, process_id):
    """Connect to the other processes given by the flags or the environment.

    Raises:
      UserError: JAX refuses the flags or the environment, or the coordinator's port cannot be opened.
      Lost: not all processes connected in time.
    """
    import jax

    jax.config.update('jax_cpu_collectives_implementation', 'gloo')
    jax.config.update('jax_enable_preemption_service', False)  # it would take SIGTERM from `interrupts`
    if process_id == 0:
        _try_port(coordinator)
    options = {
        'initialization_timeout': CONNECT_SECONDS + 30,  # then JAX's runtime aborts the process
        'heartbeat_timeout_seconds': HEARTBEAT_SECONDS,
    }
    connect = functools.partial(jax.distributed.initialize, coordinator or None, num_processes, process_id, **options)
    where = coordinator or launcher()
    try:
        system.in_thread(connect).result(CONNECT_SECONDS)
    except TimeoutError:
        each = '; each needs its own --process_id' if coordinator else ''
        raise Lost(f'not all processes connected through {where} within {CONNECT_SECONDS} seconds{each}') from None
    except (RuntimeError, ValueError) as error:
        raise UserError(f'the other processes cannot be reached ({where}): {first_line(error)}') from None


def _try_port(coordinator):
    """Raise UserError if the coordinator's port cannot be opened on this machine; JAX's runtime would crash."""
    port = int(coordinator.rpartition(':')[2])
    dual = socket.has_dualstack_ipv6()
    try:
        family = socket.AF_INET6 if dual else socket.AF_INET
        socket.create_server(('', port), family=family, dualstack_ipv6=dual).close()
    except OSError as error:
        if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # no IPv6: JAX knows what to do
            return
        reason = os.strerror(error.errno).lower()
        raise UserError(
            f'port {port} of --coordinator={coordinator} cannot be used here: {reason}; pass another to all processes'
        ) from None


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
        faulthandler.disable()  # JAX's runtime says why it aborts; the stacks of all threads would hide that
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


def code():
    """Return {name: version} of the project's source files and of the libraries that compute."""
    root = Path(__file__).parents[1]
    rooms = sorted(path.parent for path in root.glob('*/__init__.py') if path.parent.name != 'configs')
    files = [path for room in rooms for path in sorted(room.glob('*.py'))]
    versions = {path.relative_to(root).as_posix(): f'version {_digest(path.read_bytes())}' for path in files}
    return versions | {name: importlib.metadata.version(name) for name in _LIBRARIES}


def _digest(data):
    return f'{zlib.crc32(data):08x}'


def _short(text):
    """Return a text, or the start and the digest of a long one."""
    return text if len(text) <= _SHORT else f'{text[:_SHORT]}... ({_digest(text.encode(errors="backslashreplace"))})'


def is_lost(error):
    """Return whether an exception means that another process was lost."""
    import jax

    if isinstance(error, jax.errors.JaxRuntimeError):  # a failed collective
        return not str(error).startswith(_OWN_FAULTS)
    return isinstance(error, Lost)


def is_of_all(error):
    """Return whether all processes know of an exception, because `Agreed` raised it."""
    return getattr(error, 'of_all', False)


class Agreed:
    """A context manager for the start of a run: its processes all succeed, or all end with an error and exit code 2.

    The block adds to the dict that it gets what must be equal in all processes, {name: value}. At its end the
    processes exchange these values, and wait for each other. If the block failed in one of them, or a value differs,
    every process raises an exception that names this process; its attribute `of_all` is True, and an outer `Agreed`
    lets it pass. Needs no devices.
    """

    def __enter__(self):
        self._facts = {}
        return self._facts

    def __exit__(self, kind, error, trace):
        import jax

        if not jax.distributed.is_initialized() or (error and (is_lost(error) or is_of_all(error))):
            return
        problem = ' '.join(str(error).split()) if isinstance(error, (UserError, OSError)) else 'see its output'
        facts = {name: _short(str(value)) for name, value in self._facts.items()}
        texts = _exchange(json.dumps({'problem': problem if error else '', 'facts': facts}))
        if error:
            error.of_all = True
            return
        difference = _difference(map(json.loads, texts))
        if difference:
            ours = UserError(difference)
            ours.of_all = True
            raise ours


def _difference(entries):
    """Return what is wrong with the first process that failed or differs from process 0, or None."""
    first = None
    for number, entry in enumerate(entries):
        if entry['problem']:
            return f'process {number} of this run could not start: {entry["problem"]}'
        first = entry['facts'] if first is None else first
        names = [name for name in first | entry['facts'] if first.get(name) != entry['facts'].get(name)]
        if names:
            here, there = (facts.get(names[0], 'missing') for facts in (first, entry['facts']))
            more = f' (and {len(names) - 1} more)' if len(names) > 1 else ''
            return (
                f'process {number} differs from process 0: {names[0]} is {there} there, and {here} in process 0{more}. '
                'All processes need the same command, code and data'
            )
    return None


def _exchange(text):
    """Send a text to all processes, and return an iterator over theirs, in their order; all processes must call it."""
    from jax._src import distributed  # without public access; Orbax uses it, too

    state, key = distributed.global_state, f'decade/{next(_exchanges)}'
    state.client.key_value_set(f'{key}/{state.process_id}', text)
    wait = functools.partial(state.client.blocking_key_value_get, timeout_in_ms=1000 * _AGREE_SECONDS)
    keys = [f'{key}/{process}' for process in range(state.num_processes)]
    return (system.in_thread(wait, key).result() for key in keys)

"""Runs Python commands in real processes that need not import JAX first.

`Warm` starts one interpreter that imports the large packages once and then forks for every command. A fork has its own
arguments, folder, output, threads and exit code, and ends as any interpreter does; it has no accelerator's state to
share, since the parent never runs a computation. A start takes some milliseconds instead of seconds.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

# What the scripts import, and takes more than a few milliseconds.
PACKAGES = (
    'absl.app', 'chex', 'etils.epath', 'flax.linen', 'grain', 'jax', 'kornia_rs', 'matplotlib.pyplot',
    'ml_collections.config_flags', 'optax', 'orbax.checkpoint', 'PIL.Image', 'rich.progress', 'simplejpeg',
    'tensorboardX',
)  # fmt: skip


class Warm:
    """An interpreter with the packages imported; `run` is `subprocess.run` of a script or `-m MODULE`."""

    def __init__(self, interpreter, cwd, env):
        """Starts it.

        Args:
          interpreter: the words that start Python, with its own flags.
          cwd: the folder of every command, first on its path.
          env: the environment of every command.
        """
        self._command, self._options = [*interpreter, str(Path(__file__))], {'cwd': cwd, 'env': env}
        self._server = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, **self._options
        )

    def run(self, *arguments, timeout=240):
        """Runs `python *arguments`; returns a `subprocess.CompletedProcess` with the text of both outputs.

        Raises:
          subprocess.TimeoutExpired: it ran for longer than `timeout` seconds, and was killed.
        """
        with tempfile.TemporaryDirectory() as folder:
            paths = [str(Path(folder) / name) for name in ('stdout', 'stderr')]
            request = {'arguments': arguments, 'outputs': paths, 'timeout': timeout}
            self._server.stdin.write(json.dumps(request) + '\n')
            self._server.stdin.flush()
            code = json.loads(self._server.stdout.readline())
            if code is None:
                raise subprocess.TimeoutExpired(arguments, timeout)
            outputs = [Path(path).read_text() for path in paths]
        return subprocess.CompletedProcess(arguments, code, *outputs)

    def close(self):
        """Ends it."""
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


def serve():
    """Forks for every request on stdin and answers with its exit code; returns the request in the fork."""
    import gc
    import signal
    import warnings

    gc.collect()
    gc.freeze()  # a fork that ends looks at no object of this process, whose pages it would copy: 0.1 s and not 0.8
    requests, answers = os.fdopen(os.dup(0)), os.fdopen(os.dup(1), 'w')
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for line in requests:
        request = json.loads(line)
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # Python 3.12 warns of threads; only NumPy's own wait here, and it knows
            child = os.fork()
        if not child:
            for number, path in enumerate(request['outputs'], start=1):
                os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
            requests.close(), answers.close()
            return request
        signal.signal(signal.SIGALRM, lambda *_, child=child: os.kill(child, signal.SIGKILL))
        signal.alarm(request['timeout'])
        _, status = os.waitpid(child, 0)
        late = not signal.alarm(0)
        code = os.waitstatus_to_exitcode(status)
        print(json.dumps(None if late and code == -signal.SIGKILL else code), file=answers, flush=True)
    requests.close(), answers.close()
    return None


if __name__ == '__main__':
    import importlib
    import runpy

    for package in PACKAGES:
        importlib.import_module(package)
    served = serve()
    if served:
        sys.path[0] = os.getcwd()
        words = served['arguments']
        if words[0] == '-m':
            sys.argv = words[1:]
            runpy.run_module(words[1], run_name='__main__', alter_sys=True)
        else:
            sys.argv = words
            runpy.run_path(words[0], run_name='__main__')

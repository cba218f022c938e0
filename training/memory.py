"""How much memory there is, and how much was taken: of the device where its backend tells, else of the host."""

import os
import resource
import sys
from pathlib import Path

import jax


def available():
    """Bytes that a run may take on each of this process's devices; those on the CPU share what the host has left."""
    limits = [(device.memory_stats() or {}).get('bytes_limit') for device in jax.local_devices()]
    if all(limits):
        return min(limits)
    return _host() // len(limits)


def _host():
    path = Path('/proc/meminfo')
    if path.exists():
        (kilobytes,) = (line.split()[1] for line in path.read_text().splitlines() if line.startswith('MemAvailable:'))
        return 1024 * int(kilobytes)
    return os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')  # all there is: what is free, it does not tell


def peak():
    """(bytes, whose they are): the most that a device held so far; or else this process, all of its memory."""
    peaks = [(device.memory_stats() or {}).get('peak_bytes_in_use') for device in jax.local_devices()]
    if all(peaks):
        return max(peaks), 'device'
    unit = 1 if sys.platform == 'darwin' else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, 'process'


def of_program(compiled):
    """Bytes that a compiled program needs on each device: arguments, outputs that are no donated argument, the rest."""
    held = compiled.memory_analysis()
    return (
        held.argument_size_in_bytes
        + held.output_size_in_bytes
        - held.alias_size_in_bytes
        + held.temp_size_in_bytes
        + held.generated_code_size_in_bytes
    )


def text(number):
    """1234567 as '1.2 MB'."""
    return f'{number / 1e9:,.2f} GB' if number >= 1e9 else f'{number / 1e6:,.1f} MB'

"""Available and used memory: the device's where its backend reports it, otherwise the host's."""

import math

import jax

from runtime import system


def available():
    """Return the bytes that a run may use on each of this process's devices; CPU devices share the host's free memory.

    Infinity if unknown.
    """
    limits = [(device.memory_stats() or {}).get('bytes_limit') for device in jax.local_devices()]
    if all(limits):
        return min(limits)
    host = system.available_memory()
    return math.inf if host is None else host // len(limits)


def peak():
    """Return (bytes, 'device' or 'process'): the peak memory of a device, otherwise of this process.

    Infinity if unknown.
    """
    peaks = [(device.memory_stats() or {}).get('peak_bytes_in_use') for device in jax.local_devices()]
    if all(peaks):
        return max(peaks), 'device'
    of_process = system.peak_memory()
    return math.inf if of_process is None else of_process, 'process'


def of_program(compiled):
    """Return the bytes that a compiled program needs on each device; a donated argument and its output count once."""
    analysis = compiled.memory_analysis()
    return (
        analysis.argument_size_in_bytes
        + analysis.output_size_in_bytes
        - analysis.alias_size_in_bytes
        + analysis.temp_size_in_bytes
        + analysis.generated_code_size_in_bytes
    )


def text(number):
    """Format a number of bytes: 1234567 as '1.2 MB', infinity as 'an unknown size'."""
    if number == math.inf:
        return 'an unknown size'
    return f'{number / 1e9:,.2f} GB' if number >= 1e9 else f'{number / 1e6:,.1f} MB'

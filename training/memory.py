"""How much memory there is, and how much was taken: of the device where its backend tells, else of the host."""

import math

import jax

from runtime import system


def available():
    """Bytes that a run may take on each of this process's devices; those on the CPU share what the host has left.

    Infinity where nothing tells.
    """
    limits = [(device.memory_stats() or {}).get('bytes_limit') for device in jax.local_devices()]
    if all(limits):
        return min(limits)
    host = system.available_memory()
    return math.inf if host is None else host // len(limits)


def peak():
    """(bytes, whose they are): the most that a device held so far; or else this process, all of its memory.

    Infinity where nothing tells.
    """
    peaks = [(device.memory_stats() or {}).get('peak_bytes_in_use') for device in jax.local_devices()]
    if all(peaks):
        return max(peaks), 'device'
    held = system.peak_memory()
    return math.inf if held is None else held, 'process'


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
    """1234567 as '1.2 MB', infinity as 'an unknown size'."""
    if number == math.inf:
        return 'an unknown size'
    return f'{number / 1e9:,.2f} GB' if number >= 1e9 else f'{number / 1e6:,.1f} MB'

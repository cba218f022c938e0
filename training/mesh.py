"""The devices as a mesh, and how a run's arrays lie on it: parameters on every device, batches cut along 'data'."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from errors import UserError


def create(batch_size, devices=None):
    """A one-axis mesh, 'data', of the devices that a batch can be cut over.

    A batch smaller than the number of devices takes that many of them: LeNet-5's batch of 1 runs on one.

    Raises:
      UserError: the devices do not divide the batch.
    """
    devices = np.array(jax.devices() if devices is None else devices)
    devices = devices[: max(1, min(len(devices), batch_size))]
    if batch_size % len(devices):
        raise UserError(
            f'batch_size {batch_size} cannot be cut over {len(devices)} devices; take a multiple of {len(devices)}'
        )
    return Mesh(devices, ('data',), axis_types=(AxisType.Auto,))


def replicated(mesh):
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batched(mesh):
    """Cut along the first axis."""
    return NamedSharding(mesh, PartitionSpec('data'))

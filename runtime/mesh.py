"""The mesh of devices and the sharding of a run's arrays: batches over 'data', large parameters over 'model'."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from runtime.errors import UserError

# Size of an array that is worth sharding: fully connected layers of AlexNet and VGG reach it, convolutions do not.
_LARGE = 4_000_000


def create(batch_size, devices=None, model=1):
    """Return a mesh, 'data' x 'model', of the devices that a batch can be sharded over.

    A batch smaller than the number of devices uses one device per example: LeNet-5's batch of 1 runs on one device.

    Args:
      batch_size: number of examples.
      devices: the devices to use; None for all devices of all processes.
      model: size of the axis 'model', over which large parameters are sharded.

    Raises:
      UserError: the devices do not divide the batch, or `model` does not divide the devices.
    """
    devices = np.array(jax.devices() if devices is None else devices)
    if model < 1 or len(devices) % model:
        raise UserError(f'mesh.model={model} does not divide the {len(devices)} devices')
    used = max(1, min(len(devices), batch_size * model))
    if used < len(devices) and jax.process_count() > 1:
        raise UserError(
            f'batch_size {batch_size} is too small for {len(devices)} devices of {jax.process_count()} processes; use '
            f'a multiple of {len(devices) // model}'
        )
    devices = devices[:used].reshape(-1, model)
    if batch_size % len(devices):
        raise UserError(
            f'batch_size {batch_size} cannot be split over {len(devices)} devices; use a multiple of {len(devices)}'
        )
    return Mesh(devices, ('data', 'model'), axis_types=(AxisType.Auto, AxisType.Auto))


def of_this_process():
    """Return a mesh of this process's devices, for work without other processes, such as an evaluation."""
    devices = np.array(jax.local_devices()).reshape(-1, 1)
    return Mesh(devices, ('data', 'model'), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh):
    """Return the sharding that copies an array to every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh):
    """Return the sharding that splits an array along its first axis."""
    return NamedSharding(mesh, PartitionSpec('data'))


def state_sharding(mesh, state):
    """Return the sharding of each array of a state: large ones split along their last axis over 'model', or replicated.

    That is Krizhevsky's "One weird trick for parallelizing convolutional neural networks" (2014): data parallelism in
    the convolutions, model parallelism in the fully connected layers.
    """
    size = mesh.shape['model']

    def sharding(x):
        if size > 1 and x.size >= _LARGE and x.shape[-1] % size == 0:
            return NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 1), 'model'))
        return replicated(mesh)

    return jax.tree.map(sharding, state)


def put(value, sharding):
    """Place host arrays, which are equal on every process, on the devices of all processes."""
    if jax.process_count() == 1:
        return jax.device_put(value, sharding)

    def place(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(place, value)

"""The devices as a mesh, and how a run's arrays lie on it: batches cut along 'data', large parameters along 'model'."""

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from runtime.errors import UserError

_LARGE = (
    4_000_000  # numbers in an array that is worth cutting: fully connected layers of AlexNet and VGG, no convolution
)


def create(batch_size, devices=None, model=1):
    """A mesh, 'data' x 'model', of the devices that a batch can be cut over.

    A batch smaller than the number of devices takes that many of them: LeNet-5's batch of 1 runs on one.

    Args:
      batch_size: examples.
      devices: to take; None is all, of all processes.
      model: the side of the second axis, over which large parameters are cut.

    Raises:
      UserError: the devices do not divide the batch, or `model` the devices.
    """
    devices = np.array(jax.devices() if devices is None else devices)
    if model < 1 or len(devices) % model:
        raise UserError(f'mesh.model={model} does not divide the {len(devices)} devices')
    wanted = max(1, min(len(devices), batch_size * model))
    if wanted < len(devices) and jax.process_count() > 1:
        raise UserError(
            f'batch_size {batch_size} is too small for {len(devices)} devices of {jax.process_count()} processes; take '
            f'a multiple of {len(devices) // model}'
        )
    devices = devices[:wanted].reshape(-1, model)
    if batch_size % len(devices):
        raise UserError(
            f'batch_size {batch_size} cannot be cut over {len(devices)} devices; take a multiple of {len(devices)}'
        )
    return Mesh(devices, ('data', 'model'), axis_types=(AxisType.Auto, AxisType.Auto))


def of_this_process():
    """The mesh of this process's own devices: each works by itself, as in an evaluation."""
    devices = np.array(jax.local_devices()).reshape(-1, 1)
    return Mesh(devices, ('data', 'model'), axis_types=(AxisType.Auto, AxisType.Auto))


def replicated(mesh):
    """Whole on every device."""
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh):
    """Cut along the first axis."""
    return NamedSharding(mesh, PartitionSpec('data'))


def state_sharding(mesh, state):
    """How each array of a state lies: large ones cut along their last axis over 'model', the others whole.

    That is Krizhevsky's trick ("One weird trick for parallelizing convolutional neural networks", 2014): the data are
    cut in the convolutions, the parameters in the fully connected layers.
    """
    side = mesh.shape['model']

    def lies(x):
        if side > 1 and x.size >= _LARGE and x.shape[-1] % side == 0:
            return NamedSharding(mesh, PartitionSpec(*[None] * (x.ndim - 1), 'model'))
        return replicated(mesh)

    return jax.tree.map(lies, state)


def put(value, sharding):
    """Arrays of the host, the same on every process, as arrays over the devices of all."""
    if jax.process_count() == 1:
        return jax.device_put(value, sharding)

    def whole(x):
        x = np.asarray(x)
        return jax.make_array_from_callback(x.shape, sharding, lambda index: x[index])

    return jax.tree.map(whole, value)

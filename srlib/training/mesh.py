"""How a step's arrays lie on devices: weights whole on each of them, a batch divided among all of them.

On JAX all visible devices of all processes train together.
"""

import functools
from typing import TYPE_CHECKING

import keras

from srlib.errors import SrlibError
from srlib.params import Training
from srlib.training import distributed
from srlib.training.types import ByteArray, Tensor

if TYPE_CHECKING:
    from jax.sharding import Mesh, NamedSharding

AXIS = "batch"


def device_count() -> int:
    """Return the number of devices, in all processes, that a batch is divided among."""
    if keras.backend.backend() != "jax":
        return 1
    import jax

    return int(jax.device_count())


@functools.cache
def device_mesh() -> "Mesh":
    """Return all devices of all processes, in the order of the processes."""
    import jax
    import numpy as np

    # jax.make_mesh would make an axis of the explicit kind, with which Keras' operations fail.
    return jax.sharding.Mesh(np.array(jax.devices()), (AXIS,))


@functools.cache
def sharding(*, divided: bool) -> "NamedSharding":
    """Return how an array lies on the mesh: its first axis divided among the devices, or whole on each of them."""
    import jax

    return jax.sharding.NamedSharding(device_mesh(), jax.sharding.PartitionSpec(*[AXIS] if divided else []))


def replicate(value: Tensor) -> Tensor:
    """Return an array that every device has whole, given the same value in each process. No communication."""
    import jax

    return jax.make_array_from_process_local_data(sharding(divided=False), value)


def divide(batch: ByteArray) -> Tensor:
    """Return the batch of all processes as one array, given this process's rows of it. No communication."""
    import jax

    return jax.make_array_from_process_local_data(sharding(divided=True), batch)


def check_division(name: str, section: Training) -> None:
    """Check that the devices get equal shares of a batch.

    Args:
        name: Name of the section, for messages.
        section: The section of the recipe.

    Raises:
        SrlibError: They do not, or the backend cannot compute micro-batches.
    """
    devices, parts = device_count(), section.micro_batches
    problem = ""
    if parts > 1 and keras.backend.backend() != "jax":
        problem = f"micro_batches: expected 1 with the backend tensorflow, got {parts}; set KERAS_BACKEND=jax"
    elif parts > 1 and parts % devices:
        problem = f"micro_batches: expected a multiple of the number of devices ({devices}), got {parts}"
    elif section.batch % devices:
        problem = f"batch: expected a multiple of the number of devices ({devices}), got {section.batch}"
    if problem:
        distributed.expect_end()  # each process gets here
        raise SrlibError(f"{name}.{problem}")


def loader_threads() -> int:
    """Return the number of threads that make a process's batches: one per device of this process, at most four.

    One thread makes about 20,000 pairs per second from memory, twice what a small network on a large GPU needs.
    """
    return min(4, max(1, device_count() // distributed.world()))


def parts_per_process(micro_batches: int) -> int:
    """Return into how many parts a process divides its rows of a batch, each computed by itself on one device."""
    return (micro_batches if micro_batches > 1 else device_count()) // distributed.world()

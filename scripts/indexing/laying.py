"""Choose how a collection's rows are laid out, from how many they are, the memory and the GPUs that will search."""

from collections.abc import Sequence
from contextlib import closing

from index import BadBundle, Bundle, gpus_of
from index.planner import Choice, Wanted, bytes_of, plan
from model import Source
from model.device import choose_device, is_cpu

__all__ = ["laid_out", "memory_of_gpus"]


def laid_out(
    bundle: Bundle, source: Source, key: str, width: int, wanted: Wanted, memory: str, gpus: Sequence[int]
) -> Choice:
    """Plan for the images of a source called `key`, and those of the bundle's other sources.

    It does not depend on how many of them are new, so running a build again changes nothing. memory: as in 4GiB.
    gpus: bytes of each that will search. Raises BadSize, TooLittleMemory.
    """
    rows = len(source) + others(bundle, key)
    return plan(rows, width, bytes_of(memory), gpus, wanted)


def others(bundle: Bundle, key: str) -> int:
    """Return how many names the bundle's other sources have; 0 where there is no generation that can be read."""
    try:
        generation = bundle.current()
    except BadBundle:
        return 0
    with closing(generation):
        catalogue = generation.catalogue
        return sum(sum(1 for _ in catalogue.names(source)) for source in catalogue.sources() if source != key)


def memory_of_gpus(device: str) -> tuple[int, ...]:
    """Return the bytes of each GPU that a search on `device` would use. Raises NoSuchDevice."""
    if is_cpu(device):
        return ()
    import torch  # here, because it takes seconds

    gpus = gpus_of(str(choose_device(device)))
    return tuple(torch.cuda.get_device_properties(gpu).total_memory for gpu in gpus)

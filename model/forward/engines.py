"""Which engine runs a trained network, and what every engine does.

OpenVINO is the faster one on a CPU at every batch size (`scripts/benchmark.py forward`), and torch stays unimported; a
GPU has torch. Both give the same numbers, up to rounding.
"""

from importlib.util import find_spec
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.device import is_cpu

__all__ = ["EngineName", "Forward", "NoSuchEngine", "open_forward"]

EngineName = Literal["auto", "openvino", "torch"]


class NoSuchEngine(ValueError):
    """The engine cannot run the network on this machine; the message says why and what can."""


class Forward(Protocol):
    """A trained network on a device. It computes with arrays of its own kind; the results are NumPy's."""

    @property
    def engine(self) -> str:
        """Its name, "openvino" or "torch"."""

    @property
    def device(self) -> str:
        """Where it computes: "cpu", "cuda", "cuda:1"."""

    def array(self, values: NDArray[Any]) -> Any:
        """Return the values as an array on the device."""

    def joined(self, arrays: list[Any]) -> Any:
        """Return arrays of its kind as one, end to end."""

    def __call__(self, x: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 (B, 3, C, C), B >= 1 -> logits (B, classes) and the last hidden layer after ReLU (B, F)."""


def open_forward(checkpoint: Checkpoint, device: str = "auto", engine: EngineName = "auto") -> Forward:
    """Return the checkpoint's network, ready to run in the precision of its recipe.

    "auto" is OpenVINO on a CPU, where it is installed, else torch. Raises BadCheckpoint for weights that do not fit
    their table, NoSuchDevice, and NoSuchEngine where the engine, or bfloat16, is not to be had.
    """
    on_cpu = is_cpu(device)
    if engine == "openvino" and not on_cpu:
        raise NoSuchEngine(f"OpenVINO computes on the CPU here, not on {device}: --device cpu, or --engine torch")
    if engine == "openvino" or (engine == "auto" and on_cpu and find_spec("openvino")):
        try:
            from model.forward.openvino_engine import OpenvinoForward
        except ImportError as error:
            raise NoSuchEngine(
                f"OpenVINO cannot be loaded ({error}): pip install openvino, or --engine torch"
            ) from error
        return OpenvinoForward(checkpoint)
    try:
        from model.forward.torch_engine import TorchForward
    except ImportError as error:
        raise NoSuchEngine(f"torch cannot be loaded ({error}): pip install torch") from error
    return TorchForward(checkpoint, device)

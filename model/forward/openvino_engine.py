"""The forward pass on a CPU through OpenVINO. It imports no torch."""

from functools import cache
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from model.checkpoint import Checkpoint
from model.forward.engines import NoSuchEngine
from model.forward.graph import graph_of

__all__ = ["OpenvinoForward"]

HINTS = {"float32": "f32", "bfloat16": "bf16"}


class OpenvinoForward:
    """A trained network compiled by OpenVINO. Not for two threads at once."""

    engine, device = "openvino", "cpu"

    def __init__(self, checkpoint: Checkpoint) -> None:
        """Raises BadCheckpoint for weights that do not fit their table, NoSuchEngine where there is no bfloat16."""
        checkpoint.check_weights()
        precision, core = checkpoint.recipe.precision, _core()
        if precision == "bfloat16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise NoSuchEngine(
                "this processor has no bfloat16 arithmetic (AVX-512 BF16 or AMX); an index of precision float32 "
                "can be built and served anywhere"
            )
        options = {
            "INFERENCE_PRECISION_HINT": HINTS[precision],  # else OpenVINO takes bfloat16 where the processor has it
            "PERFORMANCE_HINT": "LATENCY",  # one batch at a time, on all cores of a socket
            "ENABLE_CPU_PINNING": False,  # the search and other processes use these cores, too
        }
        self._request = core.compile_model(graph_of(checkpoint), "CPU", options).create_infer_request()

    def array(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return the array itself."""
        return values

    def joined(self, arrays: list[NDArray[Any]]) -> NDArray[Any]:
        """Return the arrays end to end."""
        return np.concatenate(arrays)

    def __call__(self, x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 (B, 3, C, C), B >= 1 -> logits (B, classes) and the last hidden layer after ReLU (B, F)."""
        count = len(x)
        pixels = x.transpose(0, 2, 3, 1)  # as they lie in memory
        if missing := padded(count) - count:
            pixels = np.concatenate([pixels, np.zeros((missing, *pixels.shape[1:]), np.float32)])
        found = self._request.infer([np.ascontiguousarray(pixels)], share_inputs=True, share_outputs=True)
        logits, features = (np.array(found[place][:count]) for place in (0, 1))
        return logits, features


@cache
def _core() -> ov.Core:
    """Return the one core of the process.

    A core gives the thread a stack for signals and puts back the former one when it ends. Of two cores, the second to
    end can put back the first one's, which is gone, and then Ctrl-C ends in a segmentation fault.
    """
    return ov.Core()


def padded(count: int) -> int:
    """Return the next power of two, or ten: kernels are made anew for every batch size, so there should be few.

    Ten views of one image (section 4.1) are one batch; as one of 16 they would take half as long again.
    """
    return 10 if 8 < count <= 10 else 1 << (count - 1).bit_length()

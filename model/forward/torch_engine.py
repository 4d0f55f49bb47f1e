"""The forward pass in torch: the reference, on every device.

float32 means float32 on a GPU, too (precision.py). bfloat16 means weights and activations in bfloat16; the weights are
converted once.
"""

import threading
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.checkpoint import Checkpoint
from model.device import choose_device
from model.forward.engines import NoSuchEngine
from model.network.alexnet import AlexNet
from model.precision import full_float32, use_bf16

__all__ = ["TorchForward", "network_of"]

Outputs = tuple[Tensor, Tensor]

ONE = threading.Lock()  # a service that loads a network beside another uses both: `full_float32` is for one at a time


def network_of(checkpoint: Checkpoint) -> AlexNet:
    """Return the network with the checkpoint's weights, float32 on the CPU. Raises BadCheckpoint."""
    checkpoint.check_weights()
    with torch.device("meta"):
        network = AlexNet(checkpoint.table, len(checkpoint.classes))
    network.load_state_dict({name: torch.tensor(array) for name, array in checkpoint.weights.items()}, assign=True)
    return network


class TorchForward:
    """A trained network in torch. Not for two threads at once."""

    engine = "torch"

    def __init__(self, checkpoint: Checkpoint, device: str = "auto") -> None:
        """Raises BadCheckpoint for weights that do not fit their table, NoSuchDevice, NoSuchEngine without bfloat16."""
        place = choose_device(device)
        self.device = str(place)
        self._type = {"float32": torch.float32, "bfloat16": torch.bfloat16}[checkpoint.recipe.precision]
        if self._type == torch.bfloat16 and not use_bf16("auto", place):
            raise NoSuchEngine(
                f"{self.device} has no bfloat16 arithmetic; an index of precision float32 can be built and served "
                "anywhere"
            )
        network = network_of(checkpoint).to(place, self._type)
        self._network = network.to(memory_format=torch.channels_last)
        self._place = place
        self._single: _Captured | None = None

    def array(self, values: NDArray[Any]) -> Tensor:
        """Return the values as a tensor on the device."""
        writable = np.require(values, requirements=["C", "W"])  # else torch warns of read-only memory
        return torch.from_numpy(writable).to(self._place)

    def joined(self, arrays: list[Tensor]) -> Tensor:
        """Return the tensors end to end."""
        return torch.cat(arrays)

    def __call__(self, x: Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """float32 (B, 3, C, C), B >= 1 -> logits (B, classes) and the last hidden layer after ReLU (B, F)."""
        with ONE, torch.inference_mode(), full_float32(repeatable=True):
            logits, features = self._outputs(x.to(self._type))
            return logits.float().cpu().numpy(), features.float().cpu().numpy()

    def _outputs(self, x: Tensor) -> Outputs:
        if self._place.type != "cuda" or len(x) > 1:
            outputs: Outputs = self._network(x)
            return outputs
        if self._single is None:
            self._single = _Captured(self._network, x)
        return self._single(x)


class _Captured:
    """A pass of the network as a CUDA graph: for one image, launching its kernels costs more than running them."""

    def __init__(self, network: AlexNet, x: Tensor) -> None:
        self._x = x.clone()
        aside = torch.cuda.Stream(x.device)  # type: ignore[no-untyped-call]
        aside.wait_stream(torch.cuda.current_stream(x.device))
        with torch.cuda.stream(aside):  # libraries set themselves up in the first passes, which cannot be captured
            for _ in range(3):
                network(self._x)
        torch.cuda.current_stream(x.device).wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        # torch's own capture stream is on the first GPU that captured; other threads may use the GPU meanwhile
        capturing = torch.cuda.graph(self._graph, stream=aside, capture_error_mode="thread_local")
        with torch.cuda.device(x.device), capturing:
            self._outputs: Outputs = network(self._x)

    def __call__(self, x: Tensor) -> Outputs:
        self._x.copy_(x)
        self._graph.replay()
        return self._outputs

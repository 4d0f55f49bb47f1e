"""Can torch.compile be trusted on this machine? It is found out with a function of one line, before the network is."""

import logging
import textwrap

import torch

__all__ = ["can_compile"]


def can_compile(device: torch.device) -> bool:
    """Return whether torch.compile works on `device`, forward and backward. Where it does not, log one line with why.

    On a GPU, Triton builds its launchers with the system's C compiler against Python's headers. Where one of the two is
    missing, the first step of training would end in a traceback.
    """
    try:
        x = torch.ones(8, device=device, requires_grad=True)
        torch.autograd.backward(torch.compile(_trial)(x))
    except Exception as error:  # what a compiler, a driver or a missing header may raise is no fixed list
        reason = textwrap.shorten(str(error), 200)  # one line
        logging.getLogger(__name__).warning(
            "torch.compile fails on %s, so the network runs eager, more slowly: %s", device, reason
        )
        return False
    return True


def _trial(x: torch.Tensor) -> torch.Tensor:
    return (x * x + 1).sum()

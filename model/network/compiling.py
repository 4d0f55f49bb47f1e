"""A trial of torch.compile on this machine, with a function of one line, before the network relies on it."""

import logging
import textwrap

import torch

__all__ = ["can_compile"]


def can_compile(device: torch.device) -> bool:
    """Return True when torch.compile works on `device`, forward and backward; else log the reason in one line.

    On a GPU, Triton builds its launchers with the system's C compiler and Python's headers. If one of the two is
    missing, the first training step would end in a traceback.
    """
    try:
        x = torch.ones(8, device=device, requires_grad=True)
        torch.autograd.backward(torch.compile(_trial)(x))
    except Exception as error:  # compilers, drivers and missing headers raise many kinds of errors
        reason = textwrap.shorten(str(error), 200)  # one line
        logging.getLogger(__name__).warning(
            "torch.compile fails on %s, so the network runs eager, more slowly: %s", device, reason
        )
        return False
    return True


def _trial(x: torch.Tensor) -> torch.Tensor:
    return (x * x + 1).sum()

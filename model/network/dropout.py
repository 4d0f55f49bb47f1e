"""The masks of dropout (section 4.2), drawn so that every process of any layout draws its share of the same ones.

A mask is a pure function of (seed, step, layer, column, row of the global batch). Each column draws the mask of its own
units, and the columns' masks side by side are the one network's mask.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from model.network.tables import Dense, Table
from model.randomness import Stream, torch_generator

__all__ = ["dropout_masks"]


def dropout_masks(
    table: Table, *, seed: int, step: int, batch: int, rows: slice, columns: Sequence[int], device: torch.device
) -> dict[str, Tensor]:
    """Layer name -> bool (rows, units of `columns`): False where dropped.

    batch: images of the global batch; rows: which of them this process holds; columns: which columns it holds.
    Draws are made on `device`; a CPU and a GPU draw different masks from the same seed.
    """
    masks = {}
    for layer, (name, row) in enumerate(table.named.items()):
        if not isinstance(row, Dense) or row.units is None or not row.dropout:
            continue
        units = row.units // table.columns
        generators = (torch_generator(seed, Stream.DROPOUT, step, layer, column, device=device) for column in columns)
        masks[name] = torch.cat([_kept(batch, units, row.dropout, each)[rows] for each in generators], dim=1)
    return masks


def _kept(batch: int, units: int, dropout: float, generator: torch.Generator) -> Tensor:
    """bool (batch, units), False with probability `dropout`, rounded to 1 / 65,536: a 64-bit draw serves four units."""
    words = torch.empty(-(-batch * units // 4), dtype=torch.int64, device=generator.device)
    words.random_(-(2**63), None, generator=generator)
    draws = words.view(torch.int16)[: batch * units].view(batch, units)
    return draws >= round(dropout * 2**16) - 2**15

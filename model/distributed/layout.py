"""The ways to spread one training over several processes, planned without starting any.

- columns: section 3.2. The processes of one network hold one column each and see the same images; they exchange
  activations.
- data: every process holds the whole network and sees its own images; they average gradients.
- hybrid: "One weird trick" (Krizhevsky 2014). Convolutions as in data; of each fully connected layer every process
  holds a slice of the units and computes it for the images of all.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from model.network.tables import Conv, Table

__all__ = ["Layout", "LayoutError", "Parallel", "edges", "lay_out", "sent"]

Parallel = Literal["auto", "columns", "data", "hybrid"]


class LayoutError(ValueError):
    """These processes cannot train together as asked; the message says what can."""


@dataclass(frozen=True)
class Layout:
    """Processes as `replicas` x `columns`; rank = replica * columns + column."""

    scheme: Literal["columns", "data", "hybrid"]
    replicas: int  # shares of the global batch
    columns: int  # processes that share one network and see the same images
    why: str  # one line for people

    @property
    def slices(self) -> int:
        """Processes that share the units of a fully connected layer."""
        return self.replicas if self.scheme == "hybrid" else self.columns


def lay_out(parallel: Parallel, processes: int, table: Table, classes: int, batch: int) -> Layout:
    """Plan `processes` for a global batch of `batch` images. Raises LayoutError where something does not divide."""
    scheme, why = (parallel, "as asked") if parallel != "auto" else _choose(processes, table)
    columns = table.columns if scheme == "columns" else 1
    if processes % columns:
        raise LayoutError(
            f"{processes} processes do not divide into networks of {columns} columns: start a multiple of {columns}, "
            "or --parallel data"
        )
    replicas = processes // columns
    if batch % replicas:
        raise LayoutError(f"a batch of {batch} images does not divide among {replicas} replicas")
    layout = Layout(scheme, replicas, columns, why)
    _check_table(table, classes, layout)
    megabytes = sum(sent(layout, table, classes, batch).values()) / 1e6
    why = f"{replicas} replica(s) of {columns} process(es), {why}; each sends {megabytes:.1f} MB a step in float32"
    return replace(layout, why=f"{scheme}: {why}")


def _choose(processes: int, table: Table) -> tuple[Literal["columns", "data"], str]:
    """auto: the paper's columns (section 3.2) wherever they fit: they send fewer bytes than replicas."""
    if processes == 1:
        return "data", "one process holds it all"
    if table.columns == 1:
        return "data", f"table {table.name!r} has one column"
    if table.norm_crosses:
        return "data", f"normalisation in table {table.name!r} crosses from column to column"
    if processes % table.columns:
        return "data", f"{processes} processes do not divide into {table.columns} columns"
    return "columns", f"because {processes} processes divide into the {table.columns} columns of table {table.name!r}"


def _check_table(table: Table, classes: int, layout: Layout) -> None:
    if layout.columns > 1 and table.norm_crosses:
        raise LayoutError(f"normalisation in table {table.name!r} crosses from column to column: use --parallel data")
    for name, row in table.named.items():
        parts = layout.columns if isinstance(row, Conv) else layout.slices
        units = row.channels if isinstance(row, Conv) else row.units or 0
        if units % parts:
            raise LayoutError(f"{name}'s {units} outputs do not divide among {parts} processes")
    if classes < layout.slices:
        raise LayoutError(
            f"{classes} classes are too few for {layout.slices} processes: one of them would have no output of fc8"
        )


def edges(table: Table, classes: int) -> dict[str, int]:
    """Return edge -> floats per image that are exchanged there, of all columns together, in the forward order."""
    return {name: floats for name, floats, _ in _walk(table, classes) if floats}


def _walk(table: Table, classes: int) -> Iterator[tuple[str, int, int]]:
    """Yield each layer, the floats per image exchanged before it (0: none) and its parameters; "logits" is last."""
    in_channels, pixels = 3, table.crop
    for name, row in table.named.items():
        floats = in_channels * pixels * pixels
        if isinstance(row, Conv):
            inputs = in_channels // table.columns if row.sees == "own" else in_channels
            parameters = row.channels * (inputs * row.kernel**2 + 1)
            yield name, floats if row.sees == "both" else 0, parameters
            in_channels, pixels = row.channels, row.side(pixels)
        else:
            units = row.units or classes
            yield name, floats, units * (floats + 1)
            in_channels, pixels = units, 1
    yield "logits", classes, 0


def sent(layout: Layout, table: Table, classes: int, batch: int, element: int = 4) -> Counter[str]:
    """Return edge, or "gradients" -> bytes that one process sends in one training step; element: bytes of a number.

    An edge counts forward and backward. An all-gather over n processes, or its transpose, sends the process's share
    n - 1 times; an all-reduce sends 2 (n - 1) / n of what it reduces.
    """
    hybrid, bytes_sent = layout.scheme == "hybrid", Counter[str]()
    images = batch if hybrid else batch // layout.replicas
    for edge, floats in edges(table, classes).items():
        if not (hybrid and edge.startswith("conv")):
            bytes_sent[edge] = 2 * images * -(-floats // layout.slices) * (layout.slices - 1) * element
    averaged = sum(size for name, _, size in _walk(table, classes) if not hybrid or name.startswith("conv"))
    averaged //= layout.columns
    bytes_sent["gradients"] = 2 * (layout.replicas - 1) * averaged * element // layout.replicas
    return +bytes_sent

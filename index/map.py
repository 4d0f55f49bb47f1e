"""map.npy: a position in the plane for each image of a generation, in the order of its image ids.

Images that look alike to the network should lie together. Nothing is searched by it. n rows, d dimensions.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import files
from index.layout import FEATURES, IDS, PROJECTION, MapKind
from index.manifest import BadBundle
from index.projection import Projection, fit
from index.stored import mapped_array

__all__ = ["MAP", "NoUmap", "check_map", "write_map"]

MAP = "map.npy"
LEADING = 50  # principal components that are mapped: the others are mostly noise, and cost time
NEIGHBOURS = 15  # that UMAP keeps close to an image


class NoUmap(BadBundle):
    """The map takes a package that is not installed; the message says how to install it."""


def check_map(kind: MapKind) -> None:
    """Raise NoUmap where no map of this kind can be made here."""
    if kind == "umap" and find_spec("umap") is None:
        raise NoUmap("a map by UMAP needs umap-learn; install it with: pip install 'fc7[umap]'")


def write_map(generation: Path, segments: Sequence[Path], removed: NDArray[np.int64], kind: MapKind) -> None:
    """Write the map of the segments' images but `removed` (m,). Equal features give equal bytes on one machine.

    pca: the two directions in which the features differ most. umap (McInnes et al., 2018): neighbours in the leading
    components stay together; at most 15 images get the positions of pca. Raises NoUmap, OSError, BadBundle.
    """
    check_map(kind)
    if kind == "none":
        return
    components = _components(generation, segments, removed)
    plane = np.zeros((len(components), 2), np.float32)
    plane[:, : components.shape[1]] = components[:, :2]
    mapped = _umap(components, plane) if kind == "umap" and len(plane) > NEIGHBOURS else plane
    files.replace_array(generation / MAP, mapped)


def _components(generation: Path, segments: Sequence[Path], removed: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the principal components (n, LEADING or d) of the features minus their mean, the longest first."""
    rows = [mapped_array(segment / FEATURES, np.float32, 2) for segment in segments]
    left = [~np.isin(mapped_array(segment / IDS, np.int64, 1), removed) for segment in segments]
    if (generation / PROJECTION).exists():
        projection = Projection(np.array(mapped_array(generation / PROJECTION, np.float64, 2)))
    else:
        projection = Projection(fit(max(rows, key=len), LEADING))
    parts = [projection.components(of, 0, LEADING)[here] for of, here in zip(rows, left, strict=True)]
    found = np.concatenate(parts)
    found -= found.mean(0)
    _, axes = np.linalg.eigh(found.T @ found)  # ascending
    axes = axes[:, ::-1]
    longest = axes[np.abs(axes).argmax(0), np.arange(axes.shape[1])]
    return np.asarray(found @ (axes * np.sign(longest)), np.float32)  # an axis may point either way: here it is fixed


def _umap(components: NDArray[np.float32], plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Components (n, m) and positions to start from (n, 2) -> (n, 2)."""
    from umap import UMAP  # here, because it takes seconds

    start = 10 * plane / np.abs(plane).max(initial=1e-9)
    mapped = UMAP(n_neighbors=NEIGHBOURS, init=start, random_state=0, n_jobs=1).fit_transform(components)
    return np.asarray(mapped, np.float32)

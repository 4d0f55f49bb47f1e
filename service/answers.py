"""What the network and the index found, as the JSON of the answers."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from index import Image
from service import schemas
from service.engine import SHORT, Engine, Found, Predicted

__all__ = ["best", "indexed", "listed", "neighbour", "version"]


def best(probabilities: NDArray[np.float32], classes: tuple[str, ...], k: int) -> list[schemas.Prediction]:
    """Return the k most probable classes, ties by class id."""
    best = np.argsort(-probabilities, kind="stable")[:k]
    return [
        schemas.Prediction(label=classes[row], class_id=int(row), probability=float(probabilities[row])) for row in best
    ]


def neighbour(engine: Engine, rank: int, found: Found) -> schemas.Neighbour:
    return schemas.Neighbour(rank=rank, distance=found.distance, **indexed(engine, found.image, found.predicted))


def indexed(engine: Engine, image: Image, predicted: Predicted) -> dict[str, Any]:
    """Return the fields of schemas.IndexedImage."""
    return {
        "image_id": image.image_id,
        "name": image.name,
        "names": image.names[: schemas.NAMES],
        "names_count": len(image.names),
        "label": image.label,
        "predicted": schemas.Prediction(
            label=engine.classes[predicted.class_id],
            class_id=predicted.class_id,
            probability=predicted.probability,
        ),
        "thumbnail": _thumbnail(image),
    }


def listed(image: Image) -> schemas.ListedImage:
    return schemas.ListedImage(
        image_id=image.image_id,
        name=image.name,
        names_count=len(image.names),
        label=image.label,
        thumbnail=_thumbnail(image),
    )


def version(image: Image) -> str:
    """Return the first digits of the thumbnail's SHA-256: they differ where thumbnails do."""
    return image.sha256[:SHORT]


def _thumbnail(image: Image) -> str:
    return f"/images/{image.image_id}?v={version(image)}"

"""JSON of what the network and the index say about an image.

Probabilities are 0 ... 1, distances are Euclidean, between fc7 features.
"""

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, Field

from service.schemas.images import INDEXED, IndexedImage, Prediction
from service.schemas.problems import Problem
from service.schemas.shown import MODEL, PREDICTIONS, example

__all__ = ["RECALL", "Classification", "Embedding", "Many", "Neighbour", "Neighbourhood", "Recall", "Result"]

A = TypeVar("A", bound=BaseModel)

RECALL: dict[str, Any] = {"value": 0.9993, "low": 0.9985, "high": 0.9997, "k": 6}
NEIGHBOURS = [{**INDEXED[0], "rank": 1, "distance": 11.52}, {**INDEXED[1], "rank": 2, "distance": 12.07}]


class Recall(BaseModel):
    """The share of the true k nearest images that the answers hold, as the build measured it on images it left out."""

    model_config = example(RECALL)
    value: float
    low: float = Field(description="of a 95 % interval")
    high: float = Field(description="of a 95 % interval")
    k: int = Field(description="number of neighbours that it was measured with")


class Classification(BaseModel):
    """The most probable classes, best first."""

    model_config = example({"predictions": PREDICTIONS, "model": MODEL})
    predictions: list[Prediction]
    model: str = Field(description="first 12 digits of the weights' SHA-256; /version has all")


class Neighbour(IndexedImage):
    """One of the nearest images of the collection."""

    model_config = example(NEIGHBOURS[0])
    rank: int = Field(description="1 is the nearest")
    distance: float


class Neighbourhood(BaseModel):
    """The image's most probable classes, and the indexed images nearest to it: nearest first, ties by image id."""

    model_config = example(
        {
            "predictions": PREDICTIONS,
            "neighbours": NEIGHBOURS,
            "name": "frog/0007.png",
            "true_label": "frog",
            "exactness": "measured",
            "recall": RECALL,
            "generation": 3,
            "model": MODEL,
        }
    )
    predictions: list[Prediction]
    neighbours: list[Neighbour]
    name: str | None = Field(description="file of the indexed image asked about; null for an uploaded image")
    true_label: str | None = Field(description="label of the indexed image asked about; null for an uploaded image")
    exactness: Literal["certified", "exact", "measured"] = Field(
        description="certified: it is proven that the index holds no nearer image; exact: all of them were compared; "
        "measured: a few of the nearest may be missing, `recall` says how many"
    )
    recall: Recall | None = Field(description="of a measured answer; null for a proven one")
    generation: int = Field(description="number of the index generation that was searched")
    model: str = Field(description="first 12 digits of the weights' SHA-256")


class Embedding(BaseModel):
    """An embedding: the activations of the network's last hidden layer, fc7, after ReLU."""

    model_config = example({"embedding": [0.0, 1.25, 0.0, 0.5], "model": MODEL})
    embedding: list[float] = Field(description="4096 numbers")
    model: str = Field(description="first 12 digits of the weights' SHA-256")


class Result(BaseModel, Generic[A]):
    """What came of one image of several: an answer or a problem."""

    status: int = Field(description="the status code that the image would have alone")
    answer: A | None = Field(description="null where there is a problem")
    problem: Problem | None = Field(description="null where there is an answer")


class Many(BaseModel, Generic[A]):
    """What came of several images."""

    results: list[Result[A]] = Field(description="in the order of the files")

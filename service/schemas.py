"""The JSON bodies of the answers. Probabilities are 0 ... 1, distances are Euclidean, between fc7 features."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from service.verification import State

__all__ = [
    "Alive",
    "Classification",
    "Embedding",
    "GenerationVersion",
    "IndexedImage",
    "Layout",
    "ModelVersion",
    "Neighbour",
    "Neighbourhood",
    "Prediction",
    "Problem",
    "Ready",
    "Recall",
    "Version",
]

NAMES = 20  # of one image in an answer
MODEL = "3f9a1c0de882"
RECALL: dict[str, Any] = {"value": 0.9993, "low": 0.9985, "high": 0.9997, "k": 6}
PREDICTIONS: list[dict[str, Any]] = [
    {"label": "frog", "class_id": 6, "probability": 0.93},
    {"label": "deer", "class_id": 4, "probability": 0.04},
]
INDEXED: list[dict[str, Any]] = [
    {
        "image_id": 29,
        "name": "frog/0029.png",
        "names": ["frog/0029.png", "frog/0029-copy.png"],
        "names_count": 2,
        "label": "frog",
        "predicted": {"label": "frog", "class_id": 6, "probability": 0.97},
        "thumbnail": "/images/29?v=b21cc0a17f55",
    },
    {
        "image_id": 4150,
        "name": "IMG_4150.jpg",
        "names": ["IMG_4150.jpg"],
        "names_count": 1,
        "label": None,
        "predicted": {"label": "deer", "class_id": 4, "probability": 0.61},
        "thumbnail": "/images/4150?v=5e0d97c41a26",
    },
]
NEIGHBOURS = [{**INDEXED[0], "rank": 1, "distance": 11.52}, {**INDEXED[1], "rank": 2, "distance": 12.07}]


def example(value: dict[str, Any]) -> ConfigDict:
    """Return the configuration of a model whose OpenAPI entry shows `value`."""
    return ConfigDict(frozen=True, json_schema_extra={"example": value})


class Recall(BaseModel):
    """The share of the true k nearest images that the answers hold, as the build measured it on images it left out."""

    model_config = example(RECALL)
    value: float
    low: float = Field(description="of a 95 % interval")
    high: float = Field(description="of a 95 % interval")
    k: int = Field(description="number of neighbours that it was measured with")


class Prediction(BaseModel):
    """One class and its probability."""

    model_config = example(PREDICTIONS[0])
    label: str
    class_id: int
    probability: float


class Classification(BaseModel):
    """The most probable classes, best first."""

    model_config = example({"predictions": PREDICTIONS, "model": MODEL})
    predictions: list[Prediction]
    model: str = Field(description="first 12 digits of the weights' SHA-256; /version has all")


class IndexedImage(BaseModel):
    """One image of the collection."""

    model_config = example(INDEXED[0])
    image_id: int
    name: str = Field(description="path of the image's file in its folder, or its id in a list; the first of several")
    names: list[str] = Field(description=f"names of all files that hold this image, the first {NAMES} of them")
    names_count: int = Field(description="number of those files")
    label: str | None = Field(description="the image's true label; null where it has none")
    predicted: Prediction = Field(description="the class that the network finds most probable for the image")
    thumbnail: str = Field(description="address of its thumbnail")


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


class Alive(BaseModel):
    """The process answers."""

    model_config = example({"status": "alive"})
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    """The network and the index are loaded."""

    model_config = example({"status": "ready"})
    status: Literal["ready"] = "ready"


class ModelVersion(BaseModel):
    """The network in use."""

    model_config = ConfigDict(frozen=True)
    table: str = Field(description="name of the layer table, as in cifar, photo, paper or release")
    weights: str = Field(description="SHA-256")
    recipe: str = Field(description="SHA-256 of the image preparation, the layer table and the classes")
    precision: str = Field(description="of the network's arithmetic: float32 or bfloat16")
    device: str = Field(description="where the network runs")
    engine: str = Field(description="what runs it: openvino or torch")
    classes: list[str]


class Layout(BaseModel):
    """How the index is searched."""

    model_config = ConfigDict(frozen=True)
    kind: str = Field(description="flat, panorama or hnsw")
    components: int = Field(description="principal components that prove an answer; 0 for flat")
    leading: int = Field(description="principal components that propose one; 0 for flat")
    candidates: int = Field(description="images that are compared in full for a measured answer, at least")


class GenerationVersion(BaseModel):
    """The index generation in use."""

    model_config = ConfigDict(frozen=True)
    number: int
    created: str
    images: int
    width: int = Field(description="numbers in an embedding")
    device: str = Field(description="where the search runs: cpu, or the GPUs it uses, as in `cuda:0, cuda:1`")
    engine: str = Field(description="what computed the indexed features")
    segments: int = Field(description="parts that the index has grown by")
    removed: int = Field(description="images that the segments hold and the collection no longer has")
    layout: Layout
    recall: dict[str, Recall] = Field(description="by exactness; empty where the build measured none")
    verification: State = Field(description="whether all files were read and found to be those that were published")
    fingerprints: dict[str, str] = Field(description="SHA-256 of each file and of what it was built from")


class Version(BaseModel):
    """The network and the index in use."""

    model_config = example(
        {
            "version": "0.1.0",
            "model": {
                "table": "cifar",
                "weights": "3f9a1c0de882...",
                "recipe": "77aa02c19b3d...",
                "precision": "float32",
                "device": "cuda",
                "engine": "torch",
                "classes": ["airplane", "automobile", "bird"],
            },
            "generation": {
                "number": 3,
                "created": "2026-11-23T20:55:01+00:00",
                "images": 50000,
                "width": 4096,
                "device": "cuda:0",
                "engine": "torch",
                "segments": 2,
                "removed": 17,
                "layout": {"kind": "panorama", "components": 512, "leading": 128, "candidates": 72},
                "recall": {"certified": {"value": 1.0, "low": 0.9994, "high": 1.0, "k": 6}, "measured": RECALL},
                "verification": "done",
                "fingerprints": {"weights": "3f9a1c0de882...", "segments/0001/features.npy": "0c4e5b7d9a61..."},
            },
        }
    )
    version: str
    model: ModelVersion
    generation: GenerationVersion


class Problem(BaseModel):
    """A problem+json document (RFC 9457)."""

    model_config = ConfigDict(frozen=True)
    type: str = Field(description="stable, for programs to compare", examples=["urn:fc7:problem:not-an-image"])
    title: str
    status: int
    detail: str = Field(description="for people: what was wrong and what is accepted")
    errors: list[dict[str, str]] | None = Field(None, description="only for 422: each field with what is wrong with it")

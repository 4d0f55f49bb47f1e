"""JSON for operators: is it alive, is it ready, what is in use."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.schemas.answers import RECALL, Recall
from service.schemas.shown import example
from service.verification import State

__all__ = [
    "Alive",
    "CanariesVersion",
    "GenerationVersion",
    "Layout",
    "ModelVersion",
    "Ready",
    "Reloaded",
    "Version",
]


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
    map: str = Field("none", description="how the images were placed in the plane: none, pca or umap")


class CanariesVersion(BaseModel):
    """Indexed images that are asked again and again: do decoding and the network still give what is indexed?"""

    model_config = ConfigDict(frozen=True)
    images: int = Field(description="0 where the index was built before it kept any")
    difference: float | None = Field(
        description="the largest between numbers of their features, now and as indexed, relative to the largest "
        "indexed one; null before any was asked; 1e6 for an image that cannot be decoded"
    )
    tolerance: float = Field(description="above it the service is not ready")
    failed: bool


class Reloaded(BaseModel):
    """What is in use after a reload."""

    model_config = example({"generation": 4, "swapped": True})
    generation: int
    swapped: bool = Field(description="false where it was in use already")


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
    canaries: CanariesVersion
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
                "canaries": {"images": 16, "difference": 4.8e-7, "tolerance": 1e-3, "failed": False},
                "fingerprints": {"weights": "3f9a1c0de882...", "segments/0001/features.npy": "0c4e5b7d9a61..."},
            },
            "refused": None,
        }
    )
    version: str
    model: ModelVersion
    generation: GenerationVersion
    refused: str | None = Field(description="why the newest generation that was published is not in use")

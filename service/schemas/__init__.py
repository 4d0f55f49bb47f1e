"""The JSON bodies of the answers."""

from service.schemas.answers import Classification, Embedding, Many, Neighbour, Neighbourhood, Recall, Result
from service.schemas.changes import Added, AddedImage, Removed
from service.schemas.images import NAMES, ImagePage, IndexedImage, Label, LabelPage, ListedImage, Prediction
from service.schemas.operations import (
    Alive,
    CanariesVersion,
    GenerationVersion,
    Layout,
    ModelVersion,
    Ready,
    Reloaded,
    Version,
)
from service.schemas.problems import Problem

__all__ = [
    "NAMES",
    "Added",
    "AddedImage",
    "Alive",
    "CanariesVersion",
    "Classification",
    "Embedding",
    "GenerationVersion",
    "ImagePage",
    "IndexedImage",
    "Label",
    "LabelPage",
    "Layout",
    "ListedImage",
    "Many",
    "ModelVersion",
    "Neighbour",
    "Neighbourhood",
    "Prediction",
    "Problem",
    "Ready",
    "Recall",
    "Reloaded",
    "Removed",
    "Result",
    "Version",
]

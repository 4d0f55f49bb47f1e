"""JSON of the collection's images."""

from typing import Any

from pydantic import BaseModel, Field

from service.schemas.shown import PREDICTIONS, example

__all__ = ["INDEXED", "NAMES", "ImagePage", "IndexedImage", "Label", "LabelPage", "ListedImage", "Prediction"]

NAMES = 20  # of one image in an answer
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
LISTED = [
    {
        "image_id": 29,
        "name": "frog/0029.png",
        "names_count": 2,
        "label": "frog",
        "thumbnail": "/images/29?v=b21cc0a17f55",
    },
]
LABEL = {"label": "frog", "images": 5000}


class Prediction(BaseModel):
    """One class and its probability."""

    model_config = example(PREDICTIONS[0])
    label: str
    class_id: int
    probability: float


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


class ListedImage(BaseModel):
    """One image of a list."""

    model_config = example(LISTED[0])
    image_id: int
    name: str = Field(description="path of the image's file in its folder, or its id in a list; the first of several")
    names_count: int = Field(description="number of files that hold this image")
    label: str | None = Field(description="the image's true label; null where it has none")
    thumbnail: str = Field(description="address of its thumbnail")


class ImagePage(BaseModel):
    """Some images of the collection, by ascending image id."""

    model_config = example({"images": LISTED, "next": 29, "total": 5000, "generation": 3})
    images: list[ListedImage]
    next: int | None = Field(description="`after` of the following page; null on the last one")
    total: int = Field(description="images on all pages together")
    generation: int = Field(description="number of the index generation that was listed")


class Label(BaseModel):
    """A label, and how many images of the collection have it."""

    model_config = example(LABEL)
    label: str
    images: int


class LabelPage(BaseModel):
    """Some labels of the collection, in the order of their names."""

    model_config = example({"labels": [LABEL], "next": None, "total": 1, "unlabelled": 12, "generation": 3})
    labels: list[Label]
    next: str | None = Field(description="`after` of the following page; null on the last one")
    total: int = Field(description="labels on all pages together")
    unlabelled: int = Field(description="images without a label")
    generation: int = Field(description="number of the index generation that was listed")

"""JSON of changes to the collection."""

from pydantic import BaseModel, Field

from service.schemas.answers import Result
from service.schemas.shown import example

__all__ = ["Added", "AddedImage", "Removed"]


class AddedImage(BaseModel):
    """An image that is in the collection."""

    image_id: int
    name: str = Field(description="by which the collection calls it")


class Added(BaseModel):
    """What came of images that were sent."""

    model_config = example(
        {
            "results": [
                {"status": 201, "answer": {"image_id": 9469, "name": "3fa2b1c9d0e1/frog.jpg"}, "problem": None},
                {"status": 200, "answer": {"image_id": 17, "name": "n01440764/tench.jpg"}, "problem": None},
            ],
            "generation": 4,
        }
    )
    results: list[Result[AddedImage]] = Field(description="in the order of the files")
    generation: int = Field(description="that has them")


class Removed(BaseModel):
    """An image that is no longer in the collection."""

    model_config = example({"image_id": 9469, "generation": 5})
    image_id: int
    generation: int

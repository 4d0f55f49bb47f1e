"""How a schema is shown in OpenAPI, and values that several examples share."""

from typing import Any

from pydantic import ConfigDict

__all__ = ["MODEL", "PREDICTIONS", "example"]

MODEL = "3f9a1c0de882"
PREDICTIONS: list[dict[str, Any]] = [
    {"label": "frog", "class_id": 6, "probability": 0.93},
    {"label": "deer", "class_id": 4, "probability": 0.04},
]


def example(value: dict[str, Any]) -> ConfigDict:
    """Return the configuration of a model whose OpenAPI entry shows `value`."""
    return ConfigDict(frozen=True, json_schema_extra={"example": value})

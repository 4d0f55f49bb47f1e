"""The OpenAPI document, with forms as a client can send them: a form has no null, and a file is binary."""

from typing import Any

from fastapi import FastAPI

__all__ = ["App"]


class App(FastAPI):
    """An app whose document Swagger UI makes good forms of."""

    def openapi(self) -> dict[str, Any]:
        """Return the document; it is made once."""
        if self.openapi_schema is None:
            document = super().openapi()
            for name, schema in document["components"]["schemas"].items():
                if name.startswith("Body_"):
                    schema["properties"] = {field: _field(of) for field, of in schema["properties"].items()}
            for methods in document["paths"].values():
                for route in methods.values():
                    for parameter in route.get("parameters", ()):
                        parameter["schema"] = _sent(parameter["schema"])
        assert self.openapi_schema is not None
        return self.openapi_schema


def _field(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a form's field. Empty counts as left out; without an example Swagger UI invents a value."""
    optional = "anyOf" in schema and "contentMediaType" not in schema["anyOf"][0]
    return {**_sent(schema), "examples": [""]} if optional else _sent(schema)


def _sent(schema: dict[str, Any]) -> dict[str, Any]:
    """Return the schema of a value that may be left out but is not null."""
    if "anyOf" in schema:
        values = [one for one in schema["anyOf"] if one != {"type": "null"}]
        if len(values) == 1:
            return _sent({**{name: of for name, of in schema.items() if name != "anyOf"}, **values[0]})
    if "contentMediaType" in schema:  # Swagger UI knows a file in a list by its format
        return {**schema, "format": "binary"}
    return {**schema, "items": _sent(schema["items"])} if "items" in schema else schema

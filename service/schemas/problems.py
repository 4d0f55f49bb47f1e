"""JSON of a problem."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["Problem"]


class Problem(BaseModel):
    """A problem+json document (RFC 9457)."""

    model_config = ConfigDict(frozen=True)
    type: str = Field(description="stable, for programs to compare", examples=["urn:fc7:problem:not-an-image"])
    title: str
    status: int
    detail: str = Field(description="for people: what was wrong and what is accepted")
    request_id: str = Field(description="as in the header X-Request-Id and in the service's log")
    errors: list[dict[str, str]] | None = Field(None, description="only for 422: each field with what is wrong with it")

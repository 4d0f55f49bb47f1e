"""The collection is listed a page at a time, whole or by label."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.service.bundles import BROKEN, CLASSES, EACH
from tests.service.test_answers import INDEXED, version
from tests.service.test_problems import bad_parameter, problem


def listed(image_id: int) -> dict[str, Any]:
    label = CLASSES[image_id // EACH]
    return {
        "image_id": image_id,
        "name": f"{label}/{image_id:04}.png",
        "names_count": 1,
        "label": label,
        "thumbnail": f"/images/{image_id}?v={version(image_id)}",
    }


def pages(client: TestClient, address: str, **parameters: str | int) -> list[dict[str, Any]]:
    """Return all pages; more than 100 fail."""
    found = [client.get(address, params=parameters).json()]
    while (following := found[-1]["next"]) is not None:
        assert len(found) < 100
        found.append(client.get(address, params={**parameters, "after": following}).json())
    return found


def test_images_are_listed_by_id(client: TestClient) -> None:
    expected = {"images": [listed(i) for i in INDEXED], "next": None, "total": 29, "generation": 1}
    assert client.get("/images").json() == expected
    first = client.get("/images", params={"limit": 2}).json()
    assert first == {"images": [listed(0), listed(1)], "next": 1, "total": 29, "generation": 1}


@pytest.mark.parametrize("limit", [1, 7, 29])
def test_pages_hold_every_image_once(limit: int, client: TestClient) -> None:
    found = pages(client, "/images", limit=limit)
    assert [image["image_id"] for page in found for image in page["images"]] == INDEXED
    assert len(found) == -(-29 // limit)


def test_images_are_listed_by_label(client: TestClient) -> None:
    found = pages(client, "/images", label="dog", limit=4)
    dogs = [image_id for image_id in range(10, 20) if image_id != BROKEN]
    assert [image for page in found for image in page["images"]] == [listed(image_id) for image_id in dogs]
    assert [page["total"] for page in found] == [9, 9, 9]


def test_a_page_may_begin_behind_any_id(client: TestClient) -> None:
    assert client.get("/images?after=11&limit=1").json()["images"] == [listed(13)]  # 12 is no image
    last: dict[str, Any] = {"images": [], "next": None, "total": 29, "generation": 1}
    assert client.get(f"/images?after={2**63 - 1}").json() == last


def test_labels_are_listed_with_their_images_counted(client: TestClient) -> None:
    counted = [{"label": "cat", "images": 10}, {"label": "dog", "images": 9}, {"label": "frog", "images": 10}]
    whole = {"labels": counted, "next": None, "total": 3, "unlabelled": 0, "generation": 1}
    assert client.get("/labels").json() == whole
    assert client.get("/labels?limit=2").json() == {**whole, "labels": counted[:2], "next": "dog"}
    assert client.get("/labels?after=dog&limit=2").json() == {**whole, "labels": counted[2:]}


def test_a_label_that_no_image_has_is_not_found(client: TestClient) -> None:
    detail = "no image has the label 'frogs'; accepted: 'cat', 'dog', 'frog'"
    answer = client.get("/images?label=frogs")
    assert (answer.status_code, answer.json()) == (404, problem(404, "no-such-label", "No such label", detail))


@pytest.mark.parametrize(
    ("address", "field", "message"),
    [
        ("/images?limit=0", "limit", "Input should be greater than or equal to 1"),
        ("/images?limit=101", "limit", "Input should be less than or equal to 100"),
        ("/images?after=-1", "after", "Input should be greater than or equal to 0"),
        (f"/images?after={2**63}", "after", "Input should be less than or equal to 9223372036854775807"),
        ("/labels?limit=1001", "limit", "Input should be less than or equal to 1000"),
    ],
)
def test_bad_pages_are_named(address: str, field: str, message: str, client: TestClient) -> None:
    answer = client.get(address)
    assert (answer.status_code, answer.json()) == (422, bad_parameter(field, message))

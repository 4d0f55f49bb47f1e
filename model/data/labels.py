"""Class names that a list or the members of shards give: their order, and which are allowed."""

from collections.abc import Iterable
from pathlib import Path

from model.data.mapped import BadDataset

__all__ = ["LONGEST", "check_known", "checked", "in_order"]

LONGEST = 200  # characters of a class name


def in_order(names: Iterable[str]) -> tuple[str, ...]:
    """Return the names, each once, sorted; numbers by their value and before all others."""
    return tuple(sorted(set(names), key=_place))


def check_known(place: Path, names: Iterable[str], classes: tuple[str, ...]) -> None:
    """Raise BadDataset, with the place's name, for class names that are not among the training images' `classes`."""
    if unknown := sorted(set(names) - set(classes)):
        raise BadDataset(f"{place}: classes that the training images do not have: {', '.join(unknown[:5])}")


def checked(name: str, place: str) -> str:
    """Return a class name, "" for none. Raises BadDataset, with the place's name, for what cannot be one."""
    if len(name) > LONGEST or not name.isprintable():
        raise BadDataset(f"{place}: no class name: at most {LONGEST} printable characters are accepted")
    return name


def _place(name: str) -> tuple[bool, int, str]:
    is_number = name.isascii() and name.isdecimal() and len(name) < 20
    return not is_number, int(name) if is_number else 0, name

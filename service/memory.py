"""How much memory this process can still have: of the machine, and of its container."""

from pathlib import Path

__all__ = ["available"]


def available(root: Path = Path("/")) -> int | None:
    """Return the bytes, those of files that the kernel can drop included; None where nothing tells them."""
    told = [found for found in (_machine(root), _container(root)) if found is not None]
    return min(told, default=None)


def _machine(root: Path) -> int | None:
    found = _fields(root / "proc/meminfo").get("MemAvailable:")
    return None if found is None else 1024 * found


def _container(root: Path) -> int | None:
    """Of a control group of version 2, or of version 1."""
    group = root / "sys/fs/cgroup"
    for folder, limit, used, files in (
        (group, "memory.max", "memory.current", ("active_file", "inactive_file")),
        (
            group / "memory",
            "memory.limit_in_bytes",
            "memory.usage_in_bytes",
            ("total_active_file", "total_inactive_file"),
        ),
    ):
        most, now = _number(folder / limit), _number(folder / used)
        if most is not None and now is not None:
            stat = _fields(folder / "memory.stat")
            return max(0, most - now + sum(stat.get(name, 0) for name in files))
    return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # there is no such file, or it says "max"
        return None


def _fields(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = [line.split() for line in file.read_text().splitlines()]
    except OSError:
        return {}
    return {line[0]: int(line[1]) for line in lines if len(line) > 1 and line[1].isdecimal()}

"""The memory that is left is the machine's or the container's, whichever is less."""

from pathlib import Path

from service.memory import available

GROUP = "sys/fs/cgroup"


def system(root: Path, **said: str) -> Path:
    files = {"meminfo": "proc/meminfo", "max": f"{GROUP}/memory.max", "current": f"{GROUP}/memory.current"}
    files |= {"stat": f"{GROUP}/memory.stat", "limit": f"{GROUP}/memory/memory.limit_in_bytes"}
    files |= {"usage": f"{GROUP}/memory/memory.usage_in_bytes", "old_stat": f"{GROUP}/memory/memory.stat"}
    for name, text in said.items():
        (root / files[name]).parent.mkdir(parents=True, exist_ok=True)
        (root / files[name]).write_text(text)
    return root


MACHINE = "MemTotal:       3000 kB\nMemFree:  5 kB\nMemAvailable:   2000 kB\n"


def test_without_a_limit_it_is_the_machines(tmp_path: Path) -> None:
    assert available(system(tmp_path, meminfo=MACHINE, max="max\n", current="5\n")) == 2000 * 1024


def test_a_containers_limit_counts_files_that_can_be_dropped_as_free(tmp_path: Path) -> None:
    stat = "anon 300\nactive_file 40\ninactive_file 100\n"
    assert available(system(tmp_path, meminfo=MACHINE, max="1000\n", current="700\n", stat=stat)) == 440


def test_so_does_one_of_version_1(tmp_path: Path) -> None:
    stat = "cache 7\ntotal_active_file 40\ntotal_inactive_file 100\n"
    assert available(system(tmp_path, meminfo=MACHINE, limit="1000\n", usage="1200\n", old_stat=stat)) == 0
    assert available(system(tmp_path, usage="900\n")) == 240


def test_it_is_not_known_everywhere(tmp_path: Path) -> None:
    assert available(tmp_path) is None

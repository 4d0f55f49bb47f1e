"""Freed memory is used again without asking the system for its pages anew."""

import platform
import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from model.allocator import keep_freed_memory
if sys.argv[1] == "keep":
    assert keep_freed_memory()
for _ in range(10):
    torch.ones(20_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(20_000_000)  # 80 MB, 19,532 pages
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library has another allocator")
def test_a_block_of_80_mb_is_paid_for_once() -> None:
    faults = {
        how: int(subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, check=True).stdout)
        for how in ("keep", "leave")
    }
    assert faults["keep"] < 19_532  # less than one block's of ten
    assert faults["leave"] > 4 * faults["keep"] + 100

"""The oldest torch that pyproject.toml allows has every name that is used of torch.distributed."""

import re
from pathlib import Path

import model.distributed

# Checked by hand in torch 2.11, and no deprecated name in 2.14. all_gather_single, for one, is newer, and its old name
# all_gather_into_tensor warns: a new name here needs a look at both.
IN_ALL_RELEASES = {
    "DistError",
    "ProcessGroup",
    "ReduceOp",
    "Work",
    "all_gather",
    "all_gather_object",
    "all_reduce",
    "all_to_all_single",
    "destroy_process_group",
    "gather",
    "get_rank",
    "get_world_size",
    "group",
    "init_process_group",
}


def test_only_names_that_all_supported_releases_of_torch_have_are_used() -> None:
    sources = [file.read_text() for file in Path(model.distributed.__path__[0]).glob("*.py")]
    used = {name for source in sources for name in re.findall(r"\bdist\.(\w+)", source)}
    assert used <= IN_ALL_RELEASES

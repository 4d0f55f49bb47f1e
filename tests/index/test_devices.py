"""A search runs on the CPU, on every GPU or on one of them; where FAISS has no GPU, on the CPU."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray

from index.layout import flat_search
from index.scans.shards import GpuFailed, gpus_of
from tests.index import gpus


@pytest.mark.parametrize(
    ("device", "expected"), [("cpu", ()), ("cuda", (0, 1, 2)), ("cuda:1", (1,)), ("cuda:3", ()), ("cuda:12", ())]
)
def test_a_device_names_its_gpus(device: str, expected: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    gpus.install(monkeypatch, 3)
    assert gpus_of(device) == expected


@pytest.mark.parametrize("device", ["cpu", "cuda", "cuda:0"])
def test_a_faiss_without_gpus_has_none(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faiss, "get_num_gpus", lambda: 0, raising=False)
    assert gpus_of(device) == ()
    monkeypatch.delattr(faiss, "get_num_gpus")  # as in some builds for the CPU
    assert gpus_of(device) == ()
    assert flat_search(np.ones((3, 2), np.float32), np.arange(3), gpus=gpus_of(device)).device == "cpu"


def test_the_rows_are_divided_between_the_gpus_that_were_named(monkeypatch: pytest.MonkeyPatch) -> None:
    made = gpus.install(monkeypatch, 4)
    features = np.random.default_rng(0).standard_normal((100, 8), dtype=np.float32)
    index = flat_search(features, np.arange(100), gpus=(1, 3))
    assert [(gpu.device, len(gpu.rows)) for gpu in made] == [(1, 50), (3, 50)]
    assert index.device == "cuda:1, cuda:3"
    assert index.search(features, 1).ids[:, 0].tolist() == list(range(100))


# What FAISS 1.15 says when a GPU's memory is full.
NO_MEMORY = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) at "
    "/faiss/gpu/StandardGpuResources.cpp:576: Error: 'err == cudaSuccess' failed: StandardGpuResources: alloc fail "
    "type FlatData dev 1 space Device stream 0x55d0 size 819200000 bytes (cudaMalloc error out of memory [2])\n"
    "Outstanding allocations:\nAlloc type Other: 4 allocations, 8 bytes\n"
)


@pytest.mark.parametrize("step", ["add", "search"])
def test_a_gpu_that_fails_is_told_in_one_line(step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError(NO_MEMORY)

    gpus.install(monkeypatch, 2)
    monkeypatch.setattr(gpus.GpuIndexFlatL2, step, fail)
    features = np.ones((30, 8), np.float32)
    reason = r"^FAISS failed on GPU 1: .* \(cudaMalloc error out of memory \[2\]\); search in float16 or on the CPU$"
    with pytest.raises(GpuFailed, match=reason) as failure:
        flat_search(features, np.arange(30), gpus=(1,)).search(features[:2], 3)
    assert "\n" not in str(failure.value)
    assert "allocMemory" not in str(failure.value)


def test_no_two_threads_search_a_gpu_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """FAISS on a GPU is not safe for two threads, not even for two that only read."""
    search, busy = gpus.GpuIndexFlatL2.search, (threading.Lock(), threading.Lock())

    def alone(
        index: gpus.GpuIndexFlatL2, queries: NDArray[np.float32], k: int
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        assert busy[index.device].acquire(blocking=False), "two threads search at once"
        time.sleep(0.01 * index.device)  # the other GPU's thread is free earlier
        busy[index.device].release()
        return search(index, queries, k)

    gpus.install(monkeypatch, 2)
    monkeypatch.setattr(gpus.GpuIndexFlatL2, "search", alone)
    features = np.random.default_rng(1).standard_normal((30, 8), dtype=np.float32)
    index = flat_search(features, np.arange(30), gpus=(0, 1))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda row: int(index.search(features[row : row + 1], 1).ids[0, 0]), range(8)))
    assert found == list(range(8))

"""A device by its name, and what it is called."""

import sys

import pytest
import torch

from model import device
from model.device import NoSuchDevice, choose_device, device_name, is_cpu


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(NoSuchDevice, match="'cuda:7' here"):
        choose_device("cuda:7")
    with pytest.raises(NoSuchDevice, match="'gpu' is not a device"):
        choose_device("gpu")


def test_a_cpu_with_a_number_is_the_cpu() -> None:
    assert str(choose_device("cpu:0")) == "cpu"
    assert is_cpu("cpu:0")


def test_auto_is_the_first_gpu_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, chosen in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert choose_device("auto") == torch.device(chosen)


def test_a_cpu_is_called_by_its_processor_and_cores() -> None:
    assert device_name(torch.device("cpu")).endswith(" cores")


@pytest.mark.parametrize(
    ("driver", "package", "there", "on_cpu"),
    [(False, True, True, True), (True, False, True, True), (True, True, False, True), (True, True, True, False)],
)
def test_auto_is_the_gpu_only_with_a_driver_and_torch_and_a_gpu(
    monkeypatch: pytest.MonkeyPatch, driver: bool, package: bool, there: bool, on_cpu: bool
) -> None:
    monkeypatch.setattr(device, "_has_driver", lambda: driver)
    monkeypatch.setattr(device, "find_spec", lambda _: package or None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert is_cpu("auto") is on_cpu
    assert is_cpu("cpu")


def test_a_device_that_is_not_there_is_not_taken_for_the_cpu() -> None:
    with pytest.raises(NoSuchDevice, match="cuda:7"):
        is_cpu("cuda:7")


def test_a_gpu_without_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        NoSuchDevice, match=r"^'cuda' needs torch, which cannot be loaded here .*; accepted are auto and cpu$"
    ):
        is_cpu("cuda")

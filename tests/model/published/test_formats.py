"""Caffe's and ONNX's files give back the tensors that were written into them, or say why they cannot."""

from collections.abc import Callable
from contextlib import suppress

import pytest
import torch
from google.protobuf.descriptor_pb2 import FileDescriptorProto  # type: ignore[import-untyped]
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.published.formats import Stored, binaryproto, caffemodel, onnx
from model.published.protobuf import BadMessage, array, integers, message, messages, text
from tests.model.published.published_files import (
    chunk,
    new_blob,
    new_caffemodel,
    old_blob,
    old_caffemodel,
    onnx_model,
    onnx_tensor,
    raw,
    varint,
    whole,
)

LAYERS = {"conv1": [torch.randn(4, 3, 2, 2), torch.randn(4)], "fc6": [torch.randn(5, 300), torch.randn(5)]}
ORDER = "data conv1 norm1 pool1 fc6"


def same(found: Stored, strip: bool = False) -> None:
    assert set(found.layers) == set(LAYERS)
    for name, blobs in LAYERS.items():
        for got, wanted in zip(found.layers[name], blobs, strict=True):
            assert torch.equal(got.reshape(wanted.shape) if strip else got, wanted)
            assert got.dtype == torch.float32


def test_both_ages_of_caffemodel_are_read() -> None:
    old, new = caffemodel(old_caffemodel(LAYERS, ORDER)), caffemodel(new_caffemodel(LAYERS, ORDER))
    same(new)
    same(old, strip=True)
    assert old.layers["conv1"][1].shape == (1, 1, 1, 4)
    assert old.steps == new.steps == ("data", "conv", "norm", "pool", "fc")


@pytest.mark.parametrize("as_raw", [True, False])
def test_onnx_initializers_are_read(as_raw: bool) -> None:
    found = onnx(onnx_model(LAYERS, as_raw, nodes="Conv Relu LRN MaxPool"))
    same(found)
    assert found.steps == ("conv", "relu", "norm", "pool")


@pytest.mark.parametrize("blob", [old_blob, new_blob])
def test_a_mean_image_is_read(blob: Callable[[Tensor], bytes]) -> None:
    mean = torch.rand(1, 3, 4, 4)
    assert torch.equal(binaryproto(blob(mean)), mean)


def test_numbers_may_be_double_or_not_packed() -> None:
    x = torch.randn(3)
    single = b"".join(varint(5 << 3 | 5) + raw(value) for value in x)
    double = chunk(8, raw(x, "<f8"))
    shape = chunk(7, whole(1, 1) + whole(1, 3))  # dimensions, too, one by one
    for content in (single, double):
        assert torch.equal(binaryproto(shape + content), x[None])


def test_the_wire_is_that_of_googles_own_library() -> None:
    written = FileDescriptorProto(name="näme", dependency=["a", "b" * 300])
    written.message_type.add(name="M").field.add(name="f", number=1234567, json_name="x")
    read = message(memoryview(written.SerializeToString()))
    assert text(read[1]) == "näme"
    assert [text([value]) for value in read[3]] == ["a", "b" * 300]
    (inner,) = messages(read[4])
    (field,) = messages(inner[2])
    assert integers(field[3]) == (1234567,)


def test_negative_and_wide_integers_keep_their_64_bits() -> None:
    assert integers(message(memoryview(whole(1, 2**64 - 1)))[1]) == (2**64 - 1,)
    assert integers(message(memoryview(chunk(1, varint(300) + varint(0))))[1]) == (300, 0)


@pytest.mark.parametrize(
    ("data", "reads", "message"),
    [
        (b"", caffemodel, "no layers"),
        (chunk(1, "AlexNet"), caffemodel, "no layers"),
        (b"", onnx, "no graph"),
        (b"\x0b", caffemodel, "byte 0 begins no field"),
        (b"\x80", caffemodel, "ends within a number"),
        (b"\x80" * 11, caffemodel, "has no end"),
        (whole(100, 5), caffemodel, "an integer stands where bytes belong"),
        (chunk(100, chunk(1, b"\xff")), caffemodel, "not text"),
        (chunk(100, chunk(1, "a") + chunk(7, chunk(5, b"abc"))), caffemodel, "not a whole count of 4 bytes"),
        (chunk(100, chunk(1, "a") + chunk(7, whole(1, 9) + chunk(5, b"abcd"))), caffemodel, "a should hold 9 x 0"),
        (chunk(100, chunk(1, "a") + chunk(7, whole(2, 2**64 - 1))), caffemodel, "a should hold 0 x"),
        (new_caffemodel(LAYERS)[:-1], caffemodel, r"field 5 claims|field 100 claims"),
        (chunk(7, chunk(5, onnx_tensor("a_w_0", torch.ones(2), kind=10))), onnx, "element type 10"),
        (chunk(7, chunk(5, whole(1, 2) + whole(2, 1) + chunk(8, "a_w_0"))), onnx, "should hold 2 numbers"),
    ],
)
def test_what_is_not_such_a_file_is_refused_in_words(
    data: bytes, reads: Callable[[bytes], object], message: str
) -> None:
    with pytest.raises(BadMessage, match=message):
        reads(data)


@pytest.mark.parametrize("data", [old_caffemodel(LAYERS, "conv1 fc6"), onnx_model(LAYERS)], ids=["caffe", "onnx"])
def test_a_file_cut_anywhere_is_refused_or_lacks_layers(data: bytes) -> None:
    reads = onnx if data[0] == 8 else caffemodel
    for length in range(0, len(data), 97):
        try:
            found = reads(data[:length])
        except BadMessage:
            continue
        assert set(found.layers) < set(LAYERS)


@given(st.binary(max_size=200), st.sampled_from([caffemodel, onnx, binaryproto]))
def test_no_bytes_break_the_reader(data: bytes, reads: Callable[[bytes], object]) -> None:
    with suppress(BadMessage):
        reads(data)


@given(st.data())
def test_damaged_files_do_not_break_the_reader(data: st.DataObject) -> None:
    good = bytearray(old_caffemodel({"conv1": [torch.ones(1, 3, 2, 2), torch.ones(1)]}, "conv1 pool1"))
    for _ in range(3):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    with suppress(BadMessage):
        caffemodel(bytes(good))


def test_arrays_of_no_parts_are_empty() -> None:
    assert array([], "<f4").shape == (0,)

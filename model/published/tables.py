"""Two AlexNets that others trained on ILSVRC-2012 and published: a table of each, and its weights in our order.

Both differ from the paper's network, as the comments on the tables say. A converter is a pure function from the
source's tensors to ours; tests compare the result with the source's own network.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from model.network.tables import Conv, Dense, ResponseNorm, Table

__all__ = ["CAFFE", "CAFFE_MEAN", "TORCHVISION", "TORCHVISION_MEAN", "BadWeights", "from_caffe", "from_torchvision"]


class BadWeights(ValueError):
    """The file does not hold the published network; the message names the layer and what is wrong."""


# BVLC's bvlc_alexnet has the paper's order of steps and two groups. It differs in its crops of 227 pixels (no window
# hangs over the edge), in alpha divided by the window, in k = 1, in windows of the norm that reach across the two
# groups, in biases that start at 0.1 ("1 gave flat loss") and in inverted dropout. Published figures: top-1 57.1 %,
# top-5 80.2 % on the centre view of validation images warped to 256 x 256, where ours keep their shape.
CAFFE = Table(
    name="caffe",
    crop=227,
    rows=(
        Conv(96, 11, stride=4, sees="image", then=("relu", "norm", "pool")),  # 96 x 55 x 55 -> 27 x 27
        Conv(256, 5, padding=2, then=("relu", "norm", "pool"), bias=0.1),  # 256 x 27 x 27 -> 13 x 13
        Conv(384, 3, padding=1, sees="both"),  # 384 x 13 x 13
        Conv(384, 3, padding=1, bias=0.1),  # 384 x 13 x 13
        Conv(256, 3, padding=1, then=("relu", "pool"), bias=0.1),  # 256 x 13 x 13 -> 6 x 6
        Dense(4096, dropout=0.5, std=0.005, bias=0.1),  # 4096
        Dense(4096, dropout=0.5, std=0.005, bias=0.1),  # 4096
        Dense(None),  # classes
    ),
    norm=ResponseNorm(alpha=1e-4 / 5, k=1.0),
    norm_crosses=True,
)
CAFFE_MEAN = (122.67891434, 116.66876762, 104.00698793)  # RGB means of Caffe's own ilsvrc_2012 mean image

# torchvision's alexnet is the narrower network of "One weird trick" (2014): one column, no normalisation. Its dropout
# is before fc6 and fc7, ours is after them. So fine-tuning here drops outputs of fc6 and fc7, not of pool5 and fc6;
# evaluation drops none. Published figures: top-1 56.5 %, top-5 79.1 % on the centre view of images that were resized
# bilinearly, ours are resized bicubically.
TORCHVISION = Table(
    name="torchvision",
    crop=224,
    rows=(
        Conv(64, 11, stride=4, padding=2, sees="image", then=("relu", "pool"), std=None),  # 64 x 55 x 55 -> 27 x 27
        Conv(192, 5, padding=2, then=("relu", "pool"), std=None),  # 192 x 27 x 27 -> 13 x 13
        Conv(384, 3, padding=1, std=None),  # 384 x 13 x 13
        Conv(256, 3, padding=1, std=None),  # 256 x 13 x 13
        Conv(256, 3, padding=1, then=("relu", "pool"), std=None),  # 256 x 13 x 13 -> 6 x 6
        Dense(4096, dropout=0.5, std=None),  # 4096
        Dense(4096, dropout=0.5, std=None),  # 4096
        Dense(None, std=None),  # classes
    ),
    columns=1,
    # One scale for all channels; what is left per channel (2 %) goes into conv1's weights. With the whole scale in the
    # weights, conv1 would learn 57 x 57 times as fast in fine-tuning.
    input_scale=1 / (255 * 0.225),
)
TORCHVISION_STD = (0.229, 0.224, 0.225)  # RGB, of pixels in [0, 1]
TORCHVISION_MEAN = (255 * 0.485, 255 * 0.456, 255 * 0.406)
TORCHVISION_LAYERS = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}


def from_caffe(layers: Mapping[str, Sequence[Tensor]], table: Table = CAFFE) -> dict[str, Tensor]:
    """Layer name -> (weight, bias), as Caffe orders them, -> our weights by name. Raises BadWeights.

    Groups are blocks of output channels and fc6 reads (C, H, W) in both; conv1's input channels are BGR there.
    """
    found = {}
    for name in table.named:
        blobs = layers.get(name, ())
        if len(blobs) != 2:
            found_instead = (
                f"{len(blobs)} tensors, not weight and bias" if blobs else f"none; there are {_listed(layers)}"
            )
            raise BadWeights(f"layer {name}: {found_instead}")
        found[f"{name}.weight"], found[f"{name}.bias"] = blobs
    weights = _fitted(found, table)
    weights["conv1.weight"] = weights["conv1.weight"].flip(1)
    return weights


def from_torchvision(state: Mapping[str, Tensor], table: Table = TORCHVISION) -> dict[str, Tensor]:
    """torchvision's state dict -> our weights by name. Raises BadWeights.

    It normalises pixels, (x / 255 - mean) / std, and pads with zeros after that. Here the mean is subtracted, the
    table scales, and conv1's weights carry the rest. A zero of the padding is zero either way.
    """
    found = {}
    for name in table.named:
        for kind in ("weight", "bias"):
            key = f"{TORCHVISION_LAYERS[name]}.{kind}"
            if not isinstance(state.get(key), Tensor):
                raise BadWeights(f"layer {name}: {key} is missing; there are {_listed(state)}")
            found[f"{name}.{kind}"] = state[key]
    weights = _fitted(found, table)
    scale = 1 / (255 * table.input_scale * torch.tensor(TORCHVISION_STD, dtype=torch.float64))
    first = weights["conv1.weight"]
    weights["conv1.weight"] = (first.double() * scale.view(3, 1, 1)).to(first.dtype)
    return weights


def _fitted(found: Mapping[str, Tensor], table: Table) -> dict[str, Tensor]:
    """Return the tensors in the table's shapes, with ones in front dropped or added. Raises BadWeights."""
    expected = table.shapes(found[f"{table.last}.bias"].numel())
    fitted = {}
    for name, tensor in found.items():
        shape = expected[name]
        if _significant(tensor.shape) != _significant(shape):
            raise BadWeights(f"{name} is {_sides(tensor.shape)}, table {table.name!r} has {_sides(shape)}")
        if not tensor.isfinite().all():
            raise BadWeights(f"{name} holds values that are no numbers")
        fitted[name] = tensor.reshape(shape)
    return fitted


def _significant(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape without the ones in front: Caffe's older files write (1, 1, 4096, 9216) for a matrix."""
    start = next((i for i, side in enumerate(shape) if side != 1), len(shape))
    return tuple(shape[start:])


def _sides(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def _listed(names: Mapping[str, object]) -> str:
    shown = ", ".join(str(name) for name in list(names)[:12])  # a pickle's dictionary may have other keys than text
    return (shown + ", ..." if len(names) > 12 else shown) or "no layers"

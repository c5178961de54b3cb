"""Appearance-invariant augmentation of the reference image: colour, pose and layout.

A generator that always saw the reference as it looks in the clip learns to copy it. ST-DRC changes
what is not identity: *colour* (jitter, grayscale, blur, lighting), *pose* (flip, rotation,
perspective; the dataset also takes another frame or clip of the same person) and *layout* (scale,
position, background). Each of the three can be switched off, which is the paper's ablation. The
paper gives no magnitudes; those here keep a face recognisable to a person.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from stdrc.errors import STDRCError, UnknownNameError

ImageT = TypeVar("ImageT", np.ndarray, Image.Image, Tensor)


@dataclass(frozen=True)
class ReferenceAugmentation:
    """A random change of a reference image that leaves the person the same.

    Args:
        colour: brightness, contrast, saturation, a little hue (skin is identity), grayscale, blur,
            and light from one side.
        pose: horizontal flip, rotation and perspective.
        layout: scale, position and what fills the background.
        strength: 0 changes nothing, 1 is the intended amount, 2 twice of it.

    Raises:
        STDRCError: for a strength outside 0..2.

    Example:
        >>> augment = ReferenceAugmentation(pose=False)
        >>> image = torch.rand(3, 64, 64)
        >>> augment(image, torch.Generator().manual_seed(0)).shape
        torch.Size([3, 64, 64])
    """

    colour: bool = True
    pose: bool = True
    layout: bool = True
    strength: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.strength, int | float) and 0 <= self.strength <= 2):
            raise STDRCError(
                f"An augmentation's strength is a number in 0..2, not {self.strength!r}."
            )

    @classmethod
    def off(cls) -> ReferenceAugmentation:
        """The reference as it is."""
        return cls(colour=False, pose=False, layout=False)

    @classmethod
    def parse(
        cls, value: bool | str | Mapping[str, Any] | ReferenceAugmentation | None
    ) -> ReferenceAugmentation:
        """From True, False, `"on"`, `"off"`, names (`"colour,pose"`), a mapping, or itself.

        Raises:
            STDRCError: for an unknown name or key.
        """
        if isinstance(value, ReferenceAugmentation):
            return value
        if value is None or value is False or value == "off":
            return cls.off()
        if value is True or value == "on":
            return cls()
        names = ("colour", "pose", "layout")
        if isinstance(value, str):
            chosen = [part.strip() for part in value.replace("+", ",").split(",")]
            for name in chosen:
                _check_known(name, names)
            return cls(**{name: name in chosen for name in names})
        if isinstance(value, Mapping):
            for key in value:
                _check_known(str(key), (*names, "strength"))
            return cls(**value)
        raise STDRCError(
            f"An augmentation is on, off, names or a mapping, not {type(value).__name__}."
        )

    @property
    def active(self) -> bool:
        """Whether anything can change."""
        return self.strength > 0 and (self.colour or self.pose or self.layout)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that `parse` turns back into the same augmentation."""
        return asdict(self)

    def __str__(self) -> str:
        names = [name for name in ("colour", "pose", "layout") if getattr(self, name)]
        return "+".join(names) if names and self.strength else "off"

    def __call__(self, image: ImageT, generator: torch.Generator, *, box: Any = None) -> ImageT:
        """One random change.

        Args:
            image: uint8 array [H, W, 3], PIL image, or float tensor [3, H, W] in 0..1.
            generator: on the CPU; the same state gives the same change.
            box: the face, x0 y0 x1 y1 in pixels; where given, the layout keeps it in the image.

        Returns:
            The same kind of image, the same size.
        """
        if not self.active:
            return image
        pixels = _to_tensor(image)
        draw = _Draw(generator, self.strength)
        if self.pose or self.layout:
            pixels = self._move(pixels, draw, box)
        if self.colour:
            pixels = _colour(pixels, draw)
        return _like(pixels.clamp(0, 1), image)

    def _move(self, pixels: Tensor, draw: _Draw, box: Any) -> Tensor:
        _, height, width = pixels.shape
        # Opacity travels with the image, so that what a warp uncovers is known and filled once.
        layers = torch.cat([pixels, torch.ones_like(pixels[:1])])
        face = None if box is None else [float(v) for v in box]
        if self.pose:
            if draw.chance(0.5):
                layers = tv.horizontal_flip(layers)
                if face is not None:
                    face = [width - face[2], face[1], width - face[0], face[3]]
            corners = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
            bent = [
                [round(x + draw.span(0.10) * width), round(y + draw.span(0.10) * height)]
                for x, y in corners
            ]
            layers = tv.perspective(
                layers, corners, bent, interpolation=InterpolationMode.BILINEAR, fill=[0.0]
            )
        angle = draw.span(12.0) if self.pose else 0.0
        scale, shift = 1.0, [0, 0]
        if self.layout:
            scale = math.exp(draw.between(math.log(0.65), math.log(1.3)))
            shift = [round(draw.span(0.18) * width), round(draw.span(0.18) * height)]
            if face is not None:
                shift = _keep_inside(face, scale, shift, width, height)
        layers = tv.affine(
            layers,
            angle=angle,
            translate=shift,
            scale=scale,
            shear=[0.0, 0.0],
            interpolation=InterpolationMode.BILINEAR,
            fill=[0.0],
        )
        opacity = layers[3:].clamp(0, 1)
        background = _background(pixels, draw) if self.layout else _edge_colour(pixels)
        # The warped colours were already multiplied by opacity at the edges, by mixing with 0.
        return layers[:3] + (1 - opacity) * background


class _Draw:
    """Random numbers whose spread is scaled by the strength."""

    def __init__(self, generator: torch.Generator, strength: float) -> None:
        self.generator, self.strength = generator, strength

    def unit(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def span(self, half: float) -> float:
        """Evenly in -half..half, times the strength."""
        return (2 * self.unit() - 1) * half * self.strength

    def between(self, low: float, high: float) -> float:
        """Evenly in low..high around 0, times the strength."""
        return (low + (high - low) * self.unit()) * self.strength

    def chance(self, probability: float) -> bool:
        return self.unit() < min(1.0, probability * min(1.0, self.strength))

    def pick(self, count: int) -> int:
        return min(count - 1, int(self.unit() * count))


def _colour(pixels: Tensor, draw: _Draw) -> Tensor:
    _, height, width = pixels.shape
    pixels = tv.adjust_brightness(pixels, max(0.2, 1 + draw.span(0.2)))
    pixels = tv.adjust_contrast(pixels, max(0.2, 1 + draw.span(0.25)))
    pixels = tv.adjust_saturation(pixels, max(0.0, 1 + draw.span(0.4)))
    pixels = tv.adjust_hue(pixels, draw.span(0.03))
    # Light from one side, a little warm or cold.
    direction = draw.unit() * 2 * math.pi
    amount, warmth = draw.span(0.35), draw.span(0.08)
    if draw.chance(0.6):
        y = torch.linspace(-1, 1, height)[:, None]
        x = torch.linspace(-1, 1, width)[None, :]
        slope = math.cos(direction) * x + math.sin(direction) * y
        tint = torch.tensor([1 + warmth, 1.0, 1 - warmth])[:, None, None]
        pixels = pixels * (1 + amount * slope) * tint
    pixels = pixels.clamp(0, 1)
    if draw.chance(0.1):
        pixels = tv.rgb_to_grayscale(pixels, num_output_channels=3)
    sigma = abs(draw.span(0.015)) * min(height, width)
    if draw.chance(0.3) and sigma > 0.1:
        kernel = 2 * math.ceil(2 * sigma) + 1
        if kernel <= min(height, width):
            pixels = tv.gaussian_blur(pixels, [kernel, kernel], [sigma, sigma])
    return pixels


def _background(pixels: Tensor, draw: _Draw) -> Tensor:
    """[3, H, W]: the edge's colour, a plain colour, a gradient, or the image far out of focus."""
    _, height, width = pixels.shape
    kind = draw.pick(4)
    first = torch.rand(3, generator=draw.generator)[:, None, None]
    second = torch.rand(3, generator=draw.generator)[:, None, None]
    if kind == 0:
        return _edge_colour(pixels)
    if kind == 1:
        return first.expand(3, height, width)
    if kind == 2:
        share = torch.linspace(0, 1, height)[None, :, None]
        return (first + (second - first) * share).expand(3, height, width)
    coarse = tv.resize(pixels, [4, 4], antialias=True)
    return tv.resize(coarse, [height, width], InterpolationMode.BICUBIC).clamp(0, 1)


def _edge_colour(pixels: Tensor) -> Tensor:
    """The median colour along the border, [3, 1, 1]."""
    border = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
    return torch.cat(border, dim=1).median(dim=1).values[:, None, None]


def _keep_inside(
    face: list[float], scale: float, shift: list[int], width: int, height: int
) -> list[int]:
    """The shift nearest to `shift` at which the scaled face lies in the image, if it fits."""
    kept = []
    for low, high, size, wanted in (
        (face[0], face[2], width, shift[0]),
        (face[1], face[3], height, shift[1]),
    ):
        # affine scales around the centre.
        start, end = ((v - size / 2) * scale + size / 2 for v in (low, high))
        lowest, highest = -start, size - end
        if lowest > highest:
            kept.append(round((lowest + highest) / 2))
        else:
            kept.append(round(min(max(wanted, lowest), highest)))
    return kept


def _to_tensor(image: Any) -> Tensor:
    if isinstance(image, Tensor):
        if image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
            raise STDRCError("A reference tensor is float [3, H, W] with values in 0..1.")
        return image.detach().cpu().float()
    array = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise STDRCError("A reference array is uint8 [H, W, 3].")
    return torch.from_numpy(array.copy()).permute(2, 0, 1).float() / 255


def _like(pixels: Tensor, image: Any) -> Any:
    if isinstance(image, Tensor):
        return pixels.to(image)
    array = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
    return Image.fromarray(array) if isinstance(image, Image.Image) else array


def _check_known(name: str, known: tuple[str, ...]) -> None:
    if name not in known:
        raise UnknownNameError.among("Unknown augmentation", name, known)

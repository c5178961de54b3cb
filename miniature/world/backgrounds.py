"""The scenes behind the face, drawn once per clip on an enlarged canvas (OpenCV, anti-aliased)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np

COLOR_VALUES: dict[str, tuple[int, int, int]] = {
    "red": (206, 56, 52),
    "orange": (240, 142, 44),
    "yellow": (242, 212, 70),
    "green": (84, 168, 82),
    "blue": (62, 116, 204),
    "purple": (138, 82, 180),
    "pink": (242, 152, 188),
    "grey": (148, 150, 154),
}
_SHIFT = 3
_ONE = 1 << _SHIFT


def _mix(color: np.ndarray, other: tuple[int, int, int], amount: float) -> tuple[int, ...]:
    mixed = color * (1 - amount) + np.array(other) * amount
    return tuple(round(float(c)) for c in mixed)


def _fill(image: np.ndarray, points: np.ndarray, color: tuple[int, ...]) -> None:
    cv2.fillPoly(
        image, [np.round(points * _ONE).astype(np.int32)], color, cv2.LINE_AA, shift=_SHIFT
    )


def _disc(image: np.ndarray, x: float, y: float, r: float, color: tuple[int, ...]) -> None:
    center = (round(x * _ONE), round(y * _ONE))
    cv2.circle(image, center, round(r * _ONE), color, -1, cv2.LINE_AA, shift=_SHIFT)


@dataclass(frozen=True)
class _Scene:
    """What a pattern is drawn with: a square image, a 64th of its side, and the colour's shades."""

    image: np.ndarray
    unit: float
    base: np.ndarray
    main: tuple[int, ...]
    light: tuple[int, ...]
    dark: tuple[int, ...]

    @property
    def side(self) -> int:
        return len(self.image)


def draw_background(color: str, pattern: str, canvas: int, rng: np.random.Generator) -> np.ndarray:
    """Draw a scene.

    Args:
        color, pattern: words of `miniature.words`.
        canvas: side of the square in pixels.
        rng: where stripes begin, how big dots are, and the like.

    Returns:
        uint8 [canvas, canvas, 3], RGB.
    """
    base = np.array(COLOR_VALUES[color], np.float64)
    scene = _Scene(
        np.empty((canvas, canvas, 3), np.uint8),
        canvas / 64.0,
        base,
        main=_mix(base, (255, 255, 255), 0.0),
        light=_mix(base, (255, 255, 255), 0.45),
        dark=_mix(base, (20, 20, 40), 0.38),
    )
    scene.image[:] = scene.main
    _PATTERNS[pattern](scene, rng)
    return scene.image


def _slope(scene: _Scene, color: np.ndarray, top: float, bottom: float) -> None:
    """A fall-off of brightness from top to bottom."""
    ramp = np.linspace(top, bottom, scene.side)[:, None]
    scene.image[:] = np.clip(color * ramp, 0, 255).astype(np.uint8)[:, None]


def _under(scene: _Scene, xs: np.ndarray, ys: np.ndarray, color: tuple[int, ...]) -> None:
    """Fill everything below a curve."""
    corners = [[scene.side, scene.side], [0, scene.side]]
    _fill(scene.image, np.concatenate([np.stack([xs, ys], 1), corners]), color)


def _plain(scene: _Scene, rng: np.random.Generator) -> None:
    _slope(scene, scene.base, 1.06, 0.92)


def _striped(scene: _Scene, rng: np.random.Generator) -> None:
    period = rng.uniform(9, 13) * scene.unit
    slant = rng.choice([-0.5, 0.0, 0.5]) * scene.side
    x = rng.uniform(-1, 0) * period - abs(slant)
    while x < scene.side + abs(slant):
        corners = [[x, 0], [x + period / 2, 0], [x + period / 2 + slant, scene.side]]
        _fill(scene.image, np.array([*corners, [x + slant, scene.side]]), scene.light)
        x += period


def _dotted(scene: _Scene, rng: np.random.Generator) -> None:
    period = rng.uniform(9, 12) * scene.unit
    radius = period * rng.uniform(0.24, 0.3)
    x0, y0 = rng.uniform(0, period, 2)
    for row in range(-1, int(scene.side / period) + 2):
        for column in range(-1, int(scene.side / period) + 2):
            x = x0 + (column + 0.5 * (row % 2)) * period
            _disc(scene.image, x, y0 + row * period, radius, scene.light)


def _checkered(scene: _Scene, rng: np.random.Generator) -> None:
    period = rng.uniform(9, 12) * scene.unit
    x0, y0 = rng.uniform(-period, 0, 2)
    for row in range(int(scene.side / period) + 3):
        for column in range(row % 2, int(scene.side / period) + 3, 2):
            x, y = x0 + column * period, y0 + row * period
            square = [[x, y], [x + period, y], [x + period, y + period], [x, y + period]]
            _fill(scene.image, np.array(square), scene.dark)


def _brick(scene: _Scene, rng: np.random.Generator) -> None:
    scene.image[:] = scene.light
    height, width = 6.5 * scene.unit, 14.0 * scene.unit
    gap = 1.1 * scene.unit
    x0, y0 = rng.uniform(-width, 0), rng.uniform(-height, 0)
    shades = [scene.main, *(_mix(scene.base, (20, 20, 40), share) for share in (0.12, 0.22))]
    for row in range(int(scene.side / height) + 3):
        for column in range(int(scene.side / width) + 3):
            x = x0 + (column - 0.5 * (row % 2)) * width
            y = y0 + row * height
            x1, y1 = x + width - gap, y + height - gap
            shade = shades[int(rng.integers(3))]
            _fill(scene.image, np.array([[x, y], [x1, y], [x1, y1], [x, y1]]), shade)


def _hills(scene: _Scene, rng: np.random.Generator) -> None:
    unit = scene.unit
    scene.image[:] = _mix(scene.base, (244, 248, 252), 0.8)
    x, y = rng.uniform(6, 58) * unit, rng.uniform(7, 12) * unit
    _disc(scene.image, x, y, 4 * unit, (252, 250, 236))
    xs = np.linspace(0, scene.side, 48)
    for k, shade in enumerate((scene.light, scene.main, scene.dark)):
        phase, period = rng.uniform(0, 2 * np.pi), rng.uniform(28, 44) * unit
        ys = (24 + 12 * k) * unit + 5 * unit * np.sin(xs / period * 2 * np.pi + phase)
        _under(scene, xs, ys, shade)


def _stars(scene: _Scene, rng: np.random.Generator) -> None:
    _slope(scene, np.array(_mix(scene.base, (14, 14, 40), 0.5)), 0.72, 1.22)
    # One star per cell of a jittered grid: even cover without clumps.
    for row in range(7):
        for column in range(7):
            x, y = (np.array([column, row]) + rng.uniform(0.15, 0.85, 2)) * scene.side / 7
            r = rng.uniform(0.7, 1.3) * scene.unit
            tips = np.array([[0, -2.2], [0.5, -0.5], [2.2, 0], [0.5, 0.5]])
            tips = np.concatenate([tips, -tips]) * r
            _fill(scene.image, tips + [x, y], (255, 250, 224))


def _waves(scene: _Scene, rng: np.random.Generator) -> None:
    xs = np.linspace(0, scene.side, 64)
    scene.image[:] = _mix(scene.base, (244, 248, 252), 0.72)
    period, step = rng.uniform(12, 16) * scene.unit, 8.0 * scene.unit
    for k in range(9):
        phase = rng.uniform(0, 2 * np.pi)
        ys = (k * step) + 2.4 * scene.unit * np.sin(xs / period * 2 * np.pi + phase)
        _under(scene, xs, ys, (scene.light, scene.main, scene.dark)[k % 3])


_PATTERNS: dict[str, Callable[[_Scene, np.random.Generator], None]] = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checkered": _checkered,
    "brick": _brick,
    "hills": _hills,
    "stars": _stars,
    "waves": _waves,
}

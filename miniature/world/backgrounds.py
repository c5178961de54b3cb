"""The scenes behind the face, drawn once a clip on an enlarged canvas (OpenCV, anti-aliased)."""

from __future__ import annotations

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
    main = _mix(base, (255, 255, 255), 0.0)
    light = _mix(base, (255, 255, 255), 0.45)
    dark = _mix(base, (20, 20, 40), 0.38)
    unit = canvas / 64.0
    image = np.empty((canvas, canvas, 3), np.uint8)
    image[:] = main

    if pattern == "plain":
        # A slight fall-off from top to bottom, as a wall has.
        ramp = np.linspace(1.06, 0.92, canvas)[:, None]
        image[:] = np.clip(base * ramp, 0, 255).astype(np.uint8)[:, None]
    elif pattern == "striped":
        period = rng.uniform(9, 13) * unit
        slant = rng.choice([-0.5, 0.0, 0.5]) * canvas
        x = rng.uniform(-1, 0) * period - abs(slant)
        while x < canvas + abs(slant):
            corners = [[x, 0], [x + period / 2, 0], [x + period / 2 + slant, canvas]]
            _fill(image, np.array([*corners, [x + slant, canvas]]), light)
            x += period
    elif pattern == "dotted":
        period = rng.uniform(9, 12) * unit
        radius = period * rng.uniform(0.24, 0.3)
        x0, y0 = rng.uniform(0, period, 2)
        for row in range(-1, int(canvas / period) + 2):
            for column in range(-1, int(canvas / period) + 2):
                x = x0 + (column + 0.5 * (row % 2)) * period
                _disc(image, x, y0 + row * period, radius, light)
    elif pattern == "checkered":
        period = rng.uniform(9, 12) * unit
        x0, y0 = rng.uniform(-period, 0, 2)
        for row in range(int(canvas / period) + 3):
            for column in range(row % 2, int(canvas / period) + 3, 2):
                x, y = x0 + column * period, y0 + row * period
                square = [[x, y], [x + period, y], [x + period, y + period], [x, y + period]]
                _fill(image, np.array(square), dark)
    elif pattern == "brick":
        image[:] = light
        height, width = 6.5 * unit, 14.0 * unit
        gap = 1.1 * unit
        x0, y0 = rng.uniform(-width, 0), rng.uniform(-height, 0)
        shades = [main, _mix(base, (20, 20, 40), 0.12), _mix(base, (20, 20, 40), 0.22)]
        for row in range(int(canvas / height) + 3):
            for column in range(int(canvas / width) + 3):
                x = x0 + (column - 0.5 * (row % 2)) * width
                y = y0 + row * height
                x1, y1 = x + width - gap, y + height - gap
                shade = shades[int(rng.integers(3))]
                _fill(image, np.array([[x, y], [x1, y], [x1, y1], [x, y1]]), shade)
    elif pattern == "hills":
        sky = _mix(base, (244, 248, 252), 0.8)
        image[:] = sky
        _disc(
            image, rng.uniform(6, 58) * unit, rng.uniform(7, 12) * unit, 4 * unit, (252, 250, 236)
        )
        xs = np.linspace(0, canvas, 48)
        for k, shade in enumerate((light, main, dark)):
            phase, period = rng.uniform(0, 2 * np.pi), rng.uniform(28, 44) * unit
            ys = (24 + 12 * k) * unit + 5 * unit * np.sin(xs / period * 2 * np.pi + phase)
            _fill(
                image,
                np.concatenate([np.stack([xs, ys], 1), [[canvas, canvas], [0, canvas]]]),
                shade,
            )
    elif pattern == "stars":
        night = np.array(_mix(base, (14, 14, 40), 0.5))
        ramp = np.linspace(0.72, 1.22, canvas)[:, None]
        image[:] = np.clip(night * ramp, 0, 255).astype(np.uint8)[:, None]
        # One star a cell of a jittered grid: even cover without clumps.
        for row in range(7):
            for column in range(7):
                x, y = (np.array([column, row]) + rng.uniform(0.15, 0.85, 2)) * canvas / 7
                r = rng.uniform(0.7, 1.3) * unit
                tips = np.array([[0, -2.2], [0.5, -0.5], [2.2, 0], [0.5, 0.5]])
                tips = np.concatenate([tips, -tips]) * r
                _fill(image, tips + [x, y], (255, 250, 224))
    else:  # waves
        xs = np.linspace(0, canvas, 64)
        image[:] = _mix(base, (244, 248, 252), 0.72)
        period, step = rng.uniform(12, 16) * unit, 8.0 * unit
        for k in range(9):
            shade = (light, main, dark)[k % 3] if k else light
            phase = rng.uniform(0, 2 * np.pi)
            ys = (k * step) + 2.4 * unit * np.sin(xs / period * 2 * np.pi + phase)
            _fill(
                image,
                np.concatenate([np.stack([xs, ys], 1), [[canvas, canvas], [0, canvas]]]),
                shade,
            )
    return image

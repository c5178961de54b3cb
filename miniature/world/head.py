"""A head: an identity in a scene as polygons in head coordinates, and where a pose puts them.

Head coordinates are pixels of a 64 x 64 frame at scale 1, x to the right, y down, the origin
between eyes and nose. Polygons on the face carry a depth, so that turning and nodding shift eyes,
nose and mouth over the head as they should.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from miniature.world.attributes import ClipAttributes
from miniature.world.identity import RGB, Identity

_SHIFT = 3
SHIRTS: tuple[RGB, ...] = (
    (70, 84, 108), (222, 218, 208), (124, 66, 70), (82, 110, 94), (58, 58, 64)
)  # fmt: skip
_HATS: dict[str, RGB] = {
    "red": (196, 44, 46),
    "yellow": (238, 200, 50),
    "green": (50, 132, 72),
    "blue": (44, 84, 178),
    "white": (240, 240, 236),
}


@dataclass(frozen=True)
class Pose:
    """Where the head is in one frame: centre and scale in pixels of a 64 x 64 frame, radians."""

    x: float = 32.0
    y: float = 35.0
    scale: float = 1.0
    yaw: float = 0.0
    pitch: float = 0.0
    roll: float = 0.0


def _mix(color: RGB, other: RGB, amount: float) -> RGB:
    r, g, b = (round(c + (o - c) * amount) for c, o in zip(color, other))
    return r, g, b


@lru_cache
def _circle(n: int) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return np.stack([np.cos(t), np.sin(t)], 1)


def _ellipse(x: float, y: float, rx: float, ry: float, tilt: float = 0.0, n: int = 20):
    circle = _circle(n)
    px, py = rx * circle[:, 0], ry * circle[:, 1]
    c, s = math.cos(tilt), math.sin(tilt)
    points = np.empty((n, 2))
    points[:, 0], points[:, 1] = x + px * c - py * s, y + px * s + py * c
    return points


def _band(xs: np.ndarray, ys: np.ndarray, half: np.ndarray | float) -> np.ndarray:
    """A ribbon of half thickness `half` along the curve (xs, ys)."""
    top, bottom = np.stack([xs, ys - half], 1), np.stack([xs, ys + half], 1)
    return np.concatenate([top, bottom[::-1]])


class Head:
    """The polygons of one identity in one scene, in drawing order."""

    def __init__(self, identity: Identity, attributes: ClipAttributes, shirt: RGB, light: float):
        self.identity = identity
        self._points: list[np.ndarray] = []
        self._depths: list[np.ndarray] = []
        self._fills: list[tuple[slice, RGB]] = []
        self._count = 0
        self._draw(attributes, shirt, light)
        self.points = np.concatenate(self._points)
        self.depths = np.concatenate(self._depths)

    # -- laying out ---------------------------------------------------------------------------
    def _add(self, points: np.ndarray, color: RGB, depth="flat") -> slice:
        """Append a polygon; `depth` is "flat" (0), "face" (on the surface) or a number."""
        points = np.asarray(points, np.float64)
        if depth == "face":
            depths = self._surface(points)
        else:
            depths = np.full(len(points), 0.0 if depth == "flat" else float(depth))
        span = slice(self._count, self._count + len(points))
        self._points.append(points)
        self._depths.append(depths)
        self._fills.append((span, color))
        self._count += len(points)
        return span

    def _surface(self, points: np.ndarray) -> np.ndarray:
        """How far a point of the face stands out in front of the head's outline."""
        a, b = self.identity.half_width, self.identity.half_height
        r2 = (points[:, 0] / a) ** 2 + (points[:, 1] / b) ** 2
        return a * np.sqrt(np.clip(1 - r2, 0, None))

    def _outline(self, grow: float = 0.0, start=0.0, stop=2 * np.pi, n: int = 48) -> np.ndarray:
        """The head from angle `start` to `stop`, clockwise on screen from image-right."""
        who = self.identity
        t = np.linspace(start, stop, n)
        c, s = np.cos(t), np.sin(t)
        power = np.where(s > 0, 2 / who.jaw, 2 / 2.2)
        x = (who.half_width + grow) * np.sign(c) * np.abs(c) ** power
        y = (who.half_height + grow) * np.sign(s) * np.abs(s) ** np.where(s > 0, 0.95, power)
        return np.stack([x, y], 1)

    def _cap(self, grow: float, hairline, color: RGB, start: float = np.pi, top: float = 0.0):
        """Hair on the skull, from temple over the crown to temple and back along `hairline`."""
        over = self._outline(grow, start, 3 * np.pi - start, 32)
        over[:, 1] -= top * np.clip(-over[:, 1] / self.identity.half_height, 0, 1)
        a = self.identity.half_width
        xs = np.linspace(0.94 * a, -0.94 * a, 25)
        line = np.stack([xs, hairline(xs)], 1)
        self._add(np.concatenate([over, line]), color, "face")

    # -- the face, back to front ---------------------------------------------------------------
    def _draw(self, attributes: ClipAttributes, shirt: RGB, light: float) -> None:
        who = self.identity
        a, b = who.half_width, who.half_height
        hair, skin = who.hair_color, who.skin
        shade = _mix(skin, (70, 20, 20), 0.22)
        hair_light, hair_dark = _mix(hair, (255, 255, 255), 0.2), _mix(hair, (0, 0, 0), 0.3)
        hatted = attributes.hat != "none"

        self._hair_behind(hair, hair_dark)
        # neck, shoulders
        neck = [[-5.2, 8], [5.2, 8], [5.8, 22], [-5.8, 22]]
        self._add(np.array(neck), _mix(skin, (50, 10, 20), 0.3))
        body = [[-5.5, b + 2.2], [-8, b + 3.2], [-16, b + 6.2], [-19, b + 10], [-21, b + 44]]
        body = body + [[-x, y] for x, y in reversed(body)]
        collar = _ellipse(0, b + 2.6, 6.2, 3.4)
        self._add(np.array(body), shirt)
        self._add(collar, _mix(skin, (50, 10, 20), 0.16))
        self._hair_on_shoulders(hair, hair_dark)
        # ears stand behind the outline
        for side in (-1, 1):
            ear = who.ear_size
            self._add(_ellipse(side * (a + 0.3), 1.2, 0.62 * ear, ear), shade, -3.0)
            self._add(_ellipse(side * (a + 0.4), 1.2, 0.34 * ear, 0.62 * ear), skin, -3.0)
        # the head: a shaded rim on the side away from the light
        self.outline = self._add(self._outline(), shade)
        lit = self._outline(-0.7)
        lit[:, 0] += 0.65 * light
        lit[:, 1] -= 0.35
        self._add(lit, skin)
        for side in (-1, 1):
            if who.blush:
                blush = _mix(skin, (232, 70, 80), who.blush)
                self._add(_ellipse(side * 0.56 * a, 6.2, 2.7, 1.9), blush, "face")
        self._beard(hair, skin)
        self._eyes(attributes.expression, hair_dark, skin)
        self._nose(skin, shade)
        self._mouth(attributes.expression)
        self._marks(skin)
        self._hair_in_front(hair, hair_light, hatted)
        if who.glasses != "none":
            self._glasses()
        if hatted:
            self._hat(_HATS[attributes.hat])

    def _beard(self, hair: RGB, skin: RGB) -> None:
        who = self.identity
        a, b = who.half_width, who.half_height
        if who.beard in ("full", "stubble"):
            color = hair if who.beard == "full" else _mix(skin, _mix(hair, (40, 32, 36), 0.6), 0.3)
            jaw = self._outline(0.5 if who.beard == "full" else -0.2, 0.06, np.pi - 0.06, 32)
            xs = np.linspace(-0.93 * a, 0.93 * a, 25)
            edge = 6.4 - 5.0 * np.abs(xs / a) ** 3 + 1.8 * np.cos(xs / a * np.pi)
            edge = np.where(np.abs(xs) < 0.45 * a, np.minimum(edge, 7.3), edge)
            self._add(np.concatenate([jaw, np.stack([xs, edge], 1)]), color, "face")
        elif who.beard == "goatee":
            self._add(_ellipse(0, b - 2.6, 4.0, 3.6), hair, "face")
            xs = np.linspace(-4.4, 4.4, 13)
            self._add(_band(xs, 7.4 + 0.06 * xs**2, 0.75), hair, "face")
        elif who.beard == "moustache":
            xs = np.linspace(-5.6, 5.6, 17)
            half = 1.35 * (1 - np.abs(xs / 6.2) ** 2) + 0.15
            self._add(_band(xs, 7.3 + 0.05 * xs**2, half), hair, "face")

    def _eyes(self, expression: str, brow: RGB, skin: RGB) -> None:
        who = self.identity
        wide = {"surprised": 1.3, "smiling": 0.88, "sad": 0.9}.get(expression, 1.0)
        lift = {"surprised": 2.0, "sad": 0.3}.get(expression, 0.0)
        self.eye_spans = []
        for side in (-1, 1):
            x, y = side * who.eye_spacing, -1.4
            w, h = who.eye_width, who.eye_height * wide
            tilt = -side * who.eye_tilt
            self._add(_ellipse(x, y - 0.25, w + 0.45, h + 0.45, tilt), (52, 34, 36), "face")
            white = self._add(_ellipse(x, y, w, h, tilt), (252, 251, 248), "face")
            self.eye_spans.append(white)
            iris = min(1.75, w * 0.72)
            self._add(_ellipse(x, y, iris, min(iris, h)), who.eye_color, "face")
            self._add(_ellipse(x, y, 0.85, min(0.85, h)), (16, 12, 14), "face")
            self._add(_ellipse(x - 0.6, y - 0.6, 0.42, 0.42, n=8), (255, 255, 255), "face")
            xs = np.linspace(-3.4, 3.4, 9)
            slope = side * (who.brow_tilt + (0.32 if expression == "sad" else 0.0))
            bend = 0.06 * (3.4**2 - xs**2) * (1.5 if expression == "surprised" else 0.7)
            ys = y - who.brow_lift - lift + slope * xs - bend + 0.3
            half = who.brow_thickness * (1 - 0.45 * (side * xs / 3.4 * 0.5 + 0.5))
            self._add(_band(x + xs, ys, half), brow, "face")

    def _nose(self, skin: RGB, shade: RGB) -> None:
        who = self.identity
        tip = who.nose_length - 1.0
        a = who.half_width
        bridge = np.array([[0.5, -1.0], [who.nose_width * 0.8, tip], [-0.1, tip]])
        self._add(bridge, _mix(skin, shade, 0.6), a + 1.0)
        self.nose = self._add(_ellipse(0, tip, who.nose_width, 1.35), shade, a + 1.6)
        self._add(
            _ellipse(-0.1, tip - 0.55, who.nose_width * 0.8, 1.05),
            _mix(skin, (255, 255, 255), 0.12),
            a + 1.6,
        )

    def _mouth(self, expression: str) -> None:
        who = self.identity
        y, w, lip = 10.2, who.mouth_width, who.lip_thickness
        dark = (86, 26, 34)
        xs = np.linspace(-1, 1, 17)
        taper = np.sqrt(np.clip(1 - xs**2, 0, None))
        if expression == "smiling":
            w *= 1.2
            curve = y + 1.3 - 2.6 * xs**2
            upper, lower = curve - 1.0 * taper, curve + 1.7 * taper
            rim = np.concatenate(
                [np.stack([w * xs, upper - lip], 1), np.stack([w * xs, lower + lip], 1)[::-1]]
            )
            self._add(rim, who.lip_color, "face")
            inner = np.concatenate(
                [np.stack([0.88 * w * xs, upper], 1), np.stack([0.88 * w * xs, lower], 1)[::-1]]
            )
            self._add(inner, (254, 252, 248), "face")
            ends = curve[0]
        elif expression == "surprised":
            w *= 0.72
            self._add(_ellipse(0, y + 0.8, w * 0.82 + lip, 2.7 + lip), who.lip_color, "face")
            self._add(_ellipse(0, y + 0.8, w * 0.82, 2.7), dark, "face")
            ends = y + 0.8
        else:
            bend = -2.4 if expression == "sad" else 0.15
            curve = (
                y
                + (1.3 if expression == "sad" else 0.2)
                + bend * (1 - xs**2)
                + (1.0 if expression == "sad" else 0.0)
            )
            self._add(_band(w * xs, curve, lip * (0.25 + 0.95 * taper)), who.lip_color, "face")
            self._add(_band(0.9 * w * xs, curve, 0.28), dark, "face")
            ends = curve[0]
        corners = np.array([[-w, ends], [w, ends]])
        # A polygon of no area marks the corners of the mouth, to be read back as landmarks.
        self.mouth = slice(self._count, self._count + 2)
        self._points.append(corners)
        self._depths.append(self._surface(corners))
        self._count += 2

    def _marks(self, skin: RGB) -> None:
        who = self.identity
        if who.freckles:
            brown = _mix(skin, (120, 50, 20), 0.55)
            for side in (-1, 1):
                for x, y in ((4.2, 4.0), (6.4, 3.4), (5.4, 5.6), (8.0, 5.2), (2.8, 5.8)):
                    self._add(_ellipse(side * x, y, 0.48, 0.48, n=8), brown, "face")
        for x, y in who.moles:
            self._add(_ellipse(x, y, 0.85, 0.85, n=10), _mix(skin, (30, 12, 8), 0.85), "face")

    # -- hair ----------------------------------------------------------------------------------
    def _hair_behind(self, hair: RGB, dark: RGB) -> None:
        style, a, b = self.identity.hair_style, self.identity.half_width, self.identity.half_height
        if style in ("bob", "long", "wavy"):
            bottom = {"bob": b - 3.0, "long": b + 9.0, "wavy": b + 7.0}[style]
            flare = {"bob": 4.2, "long": 3.4, "wavy": 4.6}[style]
            over = self._outline(3.2, np.pi, 2 * np.pi, 28)
            right = [[a + flare, 0.4 * bottom], [a + flare - 0.4, bottom]]
            left = [[-x, y] for x, y in reversed(right)]
            self._add(np.concatenate([over, right, left]), dark, -2.0)
        if style == "afro":
            self._add(_ellipse(0, -5.0, a + 8.0, b + 4.0, n=36), hair, -2.0)
            for t in np.linspace(0.9 * np.pi, 2.1 * np.pi, 15):
                x, y = (a + 6.6) * np.cos(t), -5 + (b + 2.8) * np.sin(t)
                self._add(_ellipse(x, y, 2.6, 2.6, n=12), hair, -2.0)
        if style == "bun":
            self._add(_ellipse(0, -b - 4.4, 5.6, 5.0), dark, -4.0)
            self._add(_ellipse(-0.6, -b - 5.0, 4.6, 4.0), hair, -4.0)
        if style == "pigtails":
            for side in (-1, 1):
                x = side * (a + 4.6)
                self._add(_ellipse(x, 2.0, 4.0, 8.0, -side * 0.25), dark, -3.0)
                self._add(_ellipse(x - 0.5, 1.2, 3.0, 6.8, -side * 0.25), hair, -3.0)
        if style == "curly":
            for t in np.linspace(0.92 * np.pi, 2.08 * np.pi, 13):
                x, y = (a + 1.6) * np.cos(t), (b + 1.2) * np.sin(t)
                self._add(_ellipse(x, y, 4.0, 4.0, n=14), dark, -1.0)

    def _hair_on_shoulders(self, hair: RGB, dark: RGB) -> None:
        style, a, b = self.identity.hair_style, self.identity.half_width, self.identity.half_height
        if style == "long":
            for side in (-1, 1):
                lock = [[a - 1.5, -4], [a + 3.4, -3], [a + 3.2, b + 8.5], [a - 2.0, b + 9.5]]
                self._add(np.array(lock) * [side, 1], hair, -1.0)
        if style == "wavy":
            for side in (-1, 1):
                for k, y in enumerate(np.linspace(-5, b + 6.5, 6)):
                    color = hair if k % 2 == 0 else dark
                    self._add(_ellipse(side * (a + 1.6 + (k % 2)), y, 3.8, 3.4), color, -1.0)

    def _hair_in_front(self, hair: RGB, light: RGB, hatted: bool) -> None:
        who = self.identity
        style, a, b = who.hair_style, who.half_width, who.half_height

        def flat(height: float, arch: float = 2.0):
            return lambda xs: height + arch * (np.abs(xs) / a) ** 2

        crown = -0.62 * b
        if style == "buzz":
            self._cap(0.5, flat(crown, 6.5), _mix(hair, who.skin, 0.25), np.pi + 0.1)
        elif style == "short":
            self._cap(1.7, flat(crown - 0.5, 7.0), hair, np.pi - 0.05, 1.0)
        elif style == "parted":
            self._cap(2.0, lambda xs: crown - 1.5 + 0.36 * (xs + 0.5 * a), hair, np.pi - 0.1, 1.5)
        elif style == "spiky":
            t = np.linspace(np.pi + 0.05, 2 * np.pi - 0.05, 19)
            radius = np.where(np.arange(19) % 2 == 1, 6.2, 0.8)
            over = np.stack([(a + radius) * np.cos(t), (b + radius) * np.sin(t)], 1)
            xs = np.linspace(0.94 * a, -0.94 * a, 13)
            line = crown + 4.5 * (xs / a) ** 2 + np.where(np.arange(13) % 2 == 1, 1.8, -0.8)
            self._add(np.concatenate([over, np.stack([xs, line], 1)]), hair, "face")
        elif style == "curly":
            self._cap(1.2, flat(crown - 1.0, 6.0), hair, np.pi - 0.1)
            for x in np.linspace(-0.8 * a, 0.8 * a, 6):
                y = crown - 1.2 + 4.5 * (x / a) ** 2
                self._add(_ellipse(x, y, 2.7, 2.7, n=14), hair, "face")
            for t in np.linspace(np.pi, 2 * np.pi, 9):
                x, y = (a - 0.2) * np.cos(t), (b - 1.0) * np.sin(t)
                self._add(_ellipse(x, y, 3.0, 3.0, n=14), hair, "face")
        elif style == "bob":
            self._cap(2.6, flat(-0.42 * b, 0.6), hair, np.pi - 0.45, 0.6)
        elif style in ("long", "wavy"):
            self._cap(
                2.6, lambda xs: -0.88 * b + 11.0 * (np.abs(xs) / a) ** 1.3, hair, np.pi - 0.2, 0.6
            )
        elif style == "bun":
            self._cap(1.3, flat(-0.78 * b, 9.0), hair, np.pi - 0.05)
        elif style == "mohawk":
            self._cap(0.3, flat(crown - 1.5, 8.0), _mix(hair, who.skin, 0.72), np.pi + 0.15)
            crest = [[-3.6, crown + 1.0], [-4.4, -b - 3.5], [-2.4, -b - 7.0], [0, -b - 5.8]]
            crest += [[2.4, -b - 7.0], [4.4, -b - 3.5], [3.6, crown + 1.0], [0, crown + 3.0]]
            self._add(np.array(crest), hair, "face")
        elif style == "afro":
            self._cap(2.0, flat(crown - 0.5, 5.5), hair, np.pi - 0.15, 1.0)
        elif style == "pigtails":
            self._cap(1.5, lambda xs: -0.85 * b + 9.0 * (np.abs(xs) / a) ** 1.1, hair, np.pi - 0.05)
        if style not in ("bald", "buzz", "mohawk", "spiky") and not hatted:
            # a soft highlight where light falls on the crown
            xs = np.linspace(-0.55 * a, 0.1 * a, 9)
            ys = -0.92 * b + 3.2 * (xs / a) ** 2
            taper = np.sqrt(np.clip(1 - np.linspace(-1, 1, 9) ** 2, 0, None))
            self._add(_band(xs, ys, 0.75 * taper), light, "face")

    def _glasses(self) -> None:
        who = self.identity
        x0, color = who.eye_spacing, who.glasses_color
        for side in (-1, 1):
            if who.glasses == "round":
                lens = _ellipse(0, 0, 3.9, 3.8)
            else:
                lens = np.array([[-4.1, -3.0], [4.1, -3.0], [3.6, 2.9], [-3.6, 2.9]])
            outer, inner = lens * 1.11, lens * 0.89
            # One polygon that runs round the outside and back round the inside.
            ring = np.concatenate([outer, outer[:1], inner[:1], inner[::-1]])
            self._add(ring + [side * x0, -1.2], color, "face")
            arm = np.array([side * (x0 + 4.0), side * who.half_width])
            self._add(_band(arm, np.array([-1.8, -2.2]), 0.4), color, "face")
        reach = max(x0 - 3.9, 0.4)
        self._add(_band(np.array([-reach, reach]), np.array([-1.8, -1.8]), 0.42), color, "face")

    def _hat(self, color: RGB) -> None:
        a, b = self.identity.half_width, self.identity.half_height
        dome = self._outline(2.8, np.pi + 0.35, 2 * np.pi - 0.35, 28)
        dome[:, 1] -= 1.5 * np.clip(-dome[:, 1] / b, 0, 1)
        self._add(dome, color, "face")
        self._add(_ellipse(0, -b - 4.6, 2.6, 2.4), _mix(color, (255, 255, 255), 0.35), "face")
        xs = np.linspace(-a - 2.4, a + 2.4, 21)
        ys = -0.56 * b + 2.2 * (xs / a) ** 2 - 1.2
        self._add(_band(xs, ys, 2.1), _mix(color, (0, 0, 0), 0.22), "face")

    # -- frames --------------------------------------------------------------------------------
    def place(self, pose: Pose) -> np.ndarray:
        """All points of the head under `pose`, float [N, 2] in pixels of a 64 x 64 frame."""
        x = self.points[:, 0] + self.depths * np.sin(pose.yaw)
        y = self.points[:, 1] + self.depths * np.sin(pose.pitch)
        c, s = np.cos(pose.roll) * pose.scale, np.sin(pose.roll) * pose.scale
        return np.stack([pose.x + c * x - s * y, pose.y + s * x + c * y], 1)

    def paint(self, canvas: np.ndarray, placed: np.ndarray) -> None:
        """Fill the polygons on `canvas`, whose side may be any multiple of 64."""
        unit = canvas.shape[0] / 64.0
        fixed = np.round(placed * unit * (1 << _SHIFT)).astype(np.int32)
        for span, color in self._fills:
            cv2.fillPoly(canvas, [fixed[span]], color, cv2.LINE_AA, shift=_SHIFT)

    def truth(self, placed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Box [4] and landmarks [5, 2] in pixels of a 64 x 64 frame."""
        outline = placed[self.outline]
        box = np.concatenate([outline.min(0), outline.max(0)])
        eyes = [placed[span].mean(0) for span in self.eye_spans]
        nose = placed[self.nose].mean(0)
        return box, np.stack([*eyes, nose, *placed[self.mouth]])

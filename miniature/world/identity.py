"""Who is drawn: an identity is a seed, and the seed fixes every permanent trait of a face.

Large traits (skin, outline, hair style and colour, beard, glasses) are seen at a glance; small
ones (eyes, brows, nose, mouth, moles, freckles, ears) tell apart the people who share them.
Lengths are in pixels of a 64 x 64 frame at scale 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

RGB = tuple[int, int, int]

SKINS: tuple[RGB, ...] = (
    (252, 226, 205), (243, 204, 172), (228, 180, 140), (206, 150, 108), (171, 116, 76),
    (133, 86, 56), (106, 68, 48),
)  # fmt: skip
HAIR_COLORS: tuple[RGB, ...] = (
    (30, 26, 30), (74, 46, 32), (122, 76, 44), (172, 68, 36), (232, 190, 96), (156, 156, 164),
    (240, 238, 232), (54, 92, 178), (226, 98, 158), (38, 148, 138), (122, 72, 170),
)  # fmt: skip
EYE_COLORS: tuple[RGB, ...] = (
    (62, 38, 24), (120, 78, 38), (58, 122, 70), (54, 110, 190), (112, 122, 134),
)  # fmt: skip
LIP_COLORS: tuple[RGB, ...] = (
    (196, 96, 92), (176, 60, 72), (214, 120, 112), (150, 72, 76), (206, 62, 104),
)  # fmt: skip
FRAME_COLORS: tuple[RGB, ...] = ((28, 28, 34), (158, 40, 46), (34, 76, 150), (196, 158, 60))
OUTLINES: dict[str, tuple[float, float, float]] = {
    # half width, half height, exponent of the lower superellipse (2: ellipse, more: squarer)
    "oval": (12.2, 16.2, 2.1),
    "round": (14.2, 15.2, 2.2),
    "square": (13.2, 15.8, 3.0),
    "long": (11.4, 17.6, 2.3),
    "heart": (13.4, 16.4, 1.7),
}
HAIR_STYLES = (
    "bald", "buzz", "short", "parted", "spiky", "curly", "bob", "long", "bun", "mohawk", "afro",
    "pigtails", "wavy",
)  # fmt: skip
BEARDS = ("none", "stubble", "full", "goatee", "moustache")
GLASSES = ("none", "round", "square")


@dataclass(frozen=True)
class Identity:
    """The permanent traits of one person. Equal seeds give equal people on every machine."""

    seed: int
    skin: RGB
    outline: str
    half_width: float
    half_height: float
    jaw: float
    hair_style: str
    hair_color: RGB
    eye_color: RGB
    eye_spacing: float
    eye_width: float
    eye_height: float
    eye_tilt: float
    brow_thickness: float
    brow_lift: float
    brow_tilt: float
    nose_length: float
    nose_width: float
    mouth_width: float
    lip_thickness: float
    lip_color: RGB
    beard: str
    glasses: str
    glasses_color: RGB
    ear_size: float
    blush: float
    freckles: bool
    moles: tuple[tuple[float, float], ...]

    @property
    def name(self) -> str:
        """The label that data sets carry, for example ``id000007``."""
        return f"id{self.seed:06d}"

    @classmethod
    def from_seed(cls, seed: int) -> Identity:
        """Draw the traits of identity `seed` (a non-negative integer)."""
        rng = np.random.default_rng([7151, seed])

        def jitter(color: RGB, by: float) -> RGB:
            r, g, b = np.clip(np.array(color) + rng.uniform(-by, by, 3), 0, 255).astype(int)
            return int(r), int(g), int(b)

        def pick(options):
            return options[int(rng.integers(len(options)))]

        def near(mean: float, by: float) -> float:
            return float(mean + rng.uniform(-by, by))

        outline = pick(tuple(OUTLINES))
        a, b, jaw = OUTLINES[outline]
        beard = pick(BEARDS) if rng.random() < 0.55 else "none"
        glasses = pick(GLASSES[1:]) if rng.random() < 0.33 else "none"
        moles = tuple((near(0, 8.0), near(5.0, 6.0)) for _ in range(int(rng.choice([0, 0, 1, 2]))))
        return cls(
            seed=seed,
            skin=jitter(pick(SKINS), 6),
            outline=outline,
            half_width=near(a, 0.5),
            half_height=near(b, 0.5),
            jaw=near(jaw, 0.1),
            hair_style=pick(HAIR_STYLES),
            hair_color=jitter(pick(HAIR_COLORS), 8),
            eye_color=jitter(pick(EYE_COLORS), 8),
            eye_spacing=near(5.6, 0.9),
            eye_width=near(2.7, 0.55),
            eye_height=near(2.0, 0.5),
            eye_tilt=near(0.0, 0.22),
            brow_thickness=near(0.85, 0.4),
            brow_lift=near(4.3, 0.8),
            brow_tilt=near(0.0, 0.2),
            nose_length=near(5.2, 1.3),
            nose_width=near(1.9, 0.7),
            mouth_width=near(4.6, 1.2),
            lip_thickness=near(0.95, 0.35),
            lip_color=jitter(pick(LIP_COLORS), 8),
            beard=beard,
            glasses=glasses,
            glasses_color=pick(FRAME_COLORS),
            ear_size=near(3.2, 0.9),
            blush=float(rng.choice([0.0, 0.0, 0.28])),
            freckles=bool(rng.random() < 0.2),
            moles=moles,
        )

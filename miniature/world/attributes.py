"""What happens in a clip: everything that isn't identity, and the caption that says so."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np

from miniature import words
from miniature.errors import MiniatureError


@dataclass(frozen=True)
class ClipAttributes:
    """The scene of a clip. Values come from the tables of `miniature.words`.

    Raises:
        MiniatureError: a value that the world can't draw.
    """

    color: str = "blue"
    pattern: str = "plain"
    motion: str = "still"
    expression: str = "neutral"
    lighting: str = "neutral"
    hat: str = "none"

    def __post_init__(self) -> None:
        for field, allowed in (
            ("color", words.COLORS),
            ("pattern", words.PATTERNS),
            ("motion", words.MOTIONS),
            ("expression", words.EXPRESSIONS),
            ("lighting", words.LIGHTINGS),
            ("hat", words.HATS),
        ):
            value = getattr(self, field)
            if value not in allowed:
                raise MiniatureError(
                    f"ClipAttributes.{field} is {value!r}; choose one of {', '.join(allowed)}."
                )

    @property
    def background(self) -> str:
        """Colour and pattern together, for example ``green hills``."""
        return f"{self.color} {self.pattern}"

    def as_dict(self) -> dict[str, str]:
        """The attributes as plain strings, for tables and JSON."""
        return asdict(self)

    @property
    def held_out(self) -> bool:
        """Whether this combination is kept out of the train and validation splits.

        One colour in eight is withheld for each motion and one for each pattern, so every word
        is seen in training and these pairs of words are not.
        """
        color = words.COLORS.index(self.color)
        motion = words.MOTIONS.index(self.motion)
        pattern = words.PATTERNS.index(self.pattern)
        return color == (3 * motion + 1) % 8 or color == (5 * pattern + 2) % 8

    @classmethod
    def sample(cls, rng: np.random.Generator, held_out: bool | None = None) -> ClipAttributes:
        """Draw a scene; `held_out` restricts it to (True) or excludes (False) held-out pairs."""

        def pick(options: tuple[str, ...], first: float | None = None) -> str:
            """One option; `first`, where given, is the probability of the first of them."""
            if first is None:
                return options[int(rng.integers(len(options)))]
            return options[0] if rng.random() < first else pick(options[1:])

        while True:
            attributes = cls(
                color=pick(words.COLORS),
                pattern=pick(words.PATTERNS),
                motion=pick(words.MOTIONS),
                expression=pick(words.EXPRESSIONS),
                lighting=pick(words.LIGHTINGS, 0.4),
                hat=pick(words.HATS, 0.75),
            )
            if held_out is None or attributes.held_out == held_out:
                return attributes


def write_caption(attributes: ClipAttributes, rng: np.random.Generator) -> str:
    """One way of saying `attributes` in plain lower-case English, at most 32 words."""

    def pick(options: tuple[str, ...]) -> str:
        return options[int(rng.integers(len(options)))]

    subject = pick(words.SUBJECTS)
    motion = pick(words.MOTION_PHRASES[attributes.motion])
    place = pick(words.PLACES)
    scene = pick(words.PATTERN_PHRASES[attributes.pattern]).format(attributes.color)
    expression = pick(words.EXPRESSION_PHRASES[attributes.expression])
    lighting = pick(words.LIGHTING_PHRASES[attributes.lighting])
    hat = pick(words.HAT_PHRASES["none" if attributes.hat == "none" else "some"])
    hat = hat.format(attributes.hat)

    background = f"{place} {scene}"
    extras = [part for part in (expression, lighting, hat) if part]
    extras = [extras[int(i)] for i in rng.permutation(len(extras))]
    form = int(rng.integers(3))
    if form == 0:
        return ", ".join([f"{subject} {motion} {background}", *extras])
    if form == 1:
        # "a person, smiling, moves left against a red wall in dim light"
        plain = subject in ("a person", "someone")
        if plain and extras:
            return ", ".join([subject, extras[0], f"{motion} {background}", *extras[1:]])
        return ", ".join([f"{subject} {motion}", *extras, background])
    return ", ".join([f"{background} {subject} {motion}", *extras])

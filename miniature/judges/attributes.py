"""Does a clip show what its prompt says? Attributes read from prompts and from pixels.

`parse_prompt` reads the words of `miniature.words` out of a prompt; `MiniatureAttributes`
names the same attributes in a clip. A metric such as ``world.motion`` compares the two.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np
import torch

from miniature import words
from miniature.judges.networks import VideoNet, fit_clips, load_weights, weights_version
from miniature.words import FIELDS

#: What a reference can leak besides who it shows, and the attributes that make it up.
LEAKING: dict[str, tuple[str, ...]] = {
    "expression": ("expression",),
    "lighting": ("lighting",),
    "hat": ("hat",),
    "background": ("color", "pattern"),
}

# What can be said in a phrase is fixed, so a phrase is looked for as a run of whole words.
_HAT = re.compile(r"\b(" + "|".join(words.HATS[1:]) + r") hat\b")


def _named(text: str, phrases: Mapping[str, tuple[str, ...]]) -> str | None:
    """The key whose longest phrase stands in `text`, or None."""
    found = [
        (len(phrase), key)
        for key, options in phrases.items()
        for phrase in options
        if phrase and re.search(rf"\b{re.escape(phrase)}\b", text)
    ]
    return max(found)[1] if found else None


def parse_prompt(prompt: str) -> dict[str, str]:
    """The attributes that a prompt of the miniature's language names.

    Args:
        prompt: any text; words that the language lacks are ignored.

    Returns:
        Of "color", "pattern", "motion", "expression", "lighting" and "hat" those that it names. A
        prompt says nothing of expression and light where it leaves them out; the world draws
        them neutral then, but this function doesn't guess.

    Example:
        >>> parse_prompt("a person moves left in front of a green brick wall, smiling")
        {'color': 'green', 'pattern': 'brick', 'motion': 'left', 'expression': 'smiling'}
    """
    text = " ".join(words.split_words(prompt))
    found: dict[str, str] = {}
    hat = _HAT.search(text)
    scene = _HAT.sub(" ", text)
    colors = [word for word in scene.split() if word in words.COLORS]
    if colors:
        color = colors[0]
        found["color"] = color
        filled = {
            key: tuple(phrase.format(color) for phrase in options)
            for key, options in words.PATTERN_PHRASES.items()
        }
        pattern = _named(scene, filled)
        if pattern:
            found["pattern"] = pattern
    for name, phrases in (
        ("motion", words.MOTION_PHRASES),
        ("expression", words.EXPRESSION_PHRASES),
        ("lighting", words.LIGHTING_PHRASES),
    ):
        key = _named(text, phrases)
        if key:
            found[name] = key
    if hat:
        found["hat"] = hat.group(1)
    return found


def agreement(said: Mapping[str, str], seen: Mapping[str, str], names: tuple[str, ...]) -> float:
    """Share of the attributes `names` that a prompt names in which the clip agrees, 0..1.

    Args:
        said: what `parse_prompt` found.
        seen: one clip's labels, from `MiniatureAttributes`.
        names: for example ``("color", "pattern")`` for the background.

    Returns:
        NaN where the prompt names none of them.
    """
    asked = [name for name in names if name in said]
    if not asked:
        return float("nan")
    return sum(said[name] == seen[name] for name in asked) / len(asked)


def leakage(
    said: Mapping[str, str], seen: Mapping[str, str], reference: Mapping[str, str]
) -> dict[str, float]:
    """Which of the reference's attributes a clip shows although its prompt asks for others.

    Args:
        said: what `parse_prompt` found.
        seen: the clip's labels.
        reference: the reference's labels; a reference without a hat has ``"none"``.

    Returns:
        For each of `LEAKING` 1 (the clip shows what the reference shows) or 0, and NaN where the
        prompt doesn't name it or names what the reference shows; ``"any"`` is the mean of the
        others that are not NaN.

    Example:
        >>> said = {"expression": "sad", "hat": "red", "lighting": "warm"}
        >>> portrait = {"expression": "smiling", "hat": "none", "lighting": "warm"}
        >>> leakage(said, {"expression": "smiling", "hat": "red", "lighting": "warm"}, portrait)
        {'expression': 1.0, 'lighting': nan, 'hat': 0.0, 'background': nan, 'any': 0.5}
    """
    found = {}
    for name, parts in LEAKING.items():
        asked = all(part in said for part in parts) and any(
            said[part] != reference[part] for part in parts
        )
        shown = asked and all(seen[part] == reference[part] for part in parts)
        found[name] = float(shown) if asked else math.nan
    asked_for = [value for value in found.values() if not math.isnan(value)]
    found["any"] = sum(asked_for) / len(asked_for) if asked_for else math.nan
    return found


class MiniatureAttributes:
    """Names background, motion, expression, light and hat of clips of the procedural world.

    Args:
        device: where the network runs.

    Raises:
        MetricsError: missing weights.
    """

    name = "miniature"

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.device = torch.device(device)
        self.version = weights_version("video")
        self._net = load_weights(VideoNet(), "video", device)

    @torch.inference_mode()
    def predict(self, clips: np.ndarray) -> dict[str, list[str]]:
        """Label clips uint8 [B, T, H, W, 3].

        Returns:
            For each attribute one label per clip, such as ``{"motion": ["left", "still"], ...}``.

        Raises:
            MetricsError: clips of another type or shape.
        """
        pixels = torch.from_numpy(np.ascontiguousarray(fit_clips(clips)))
        labels: dict[str, list[str]] = {name: [] for name in FIELDS}
        for part in pixels.split(32):
            out = self._net(part.to(self.device))
            for name, options in FIELDS.items():
                labels[name] += [options[k] for k in out[name].argmax(1).tolist()]
        return labels

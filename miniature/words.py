"""The language of the miniature world: what a caption can say, and how it says it.

The world (`miniature.world`) writes captions from these tables and the attribute judge reads
prompts with them, so the two can't drift apart. Captions name what isn't identity: background,
motion, expression, lighting and hat. Nothing here needs more than the standard library.
"""

from __future__ import annotations

import re

COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "grey")
PATTERNS = ("plain", "striped", "dotted", "checkered", "brick", "hills", "stars", "waves")
MOTIONS = ("left", "right", "up", "down", "towards", "away", "turning", "nodding", "still")
EXPRESSIONS = ("neutral", "smiling", "sad", "surprised")
LIGHTINGS = ("neutral", "warm", "cold", "dim")
HATS = ("none", "red", "yellow", "green", "blue", "white")

SUBJECTS = ("a person", "someone", "a portrait of someone who", "a face that", "a character who")

# Each motion's phrases contain no phrase of another motion, so that a prompt reads back to one.
MOTION_PHRASES: dict[str, tuple[str, ...]] = {
    "left": ("moves left", "drifts to the left", "slides left", "goes slowly to the left"),
    "right": ("moves right", "drifts to the right", "slides right", "goes slowly to the right"),
    "up": ("moves up", "rises", "floats upwards", "goes slowly up"),
    "down": ("moves down", "sinks", "drops downwards", "goes slowly down"),
    "towards": ("comes closer", "moves towards the camera", "walks towards us", "approaches"),
    "away": ("moves away", "walks away from the camera", "backs away", "retreats"),
    "turning": ("turns the head", "looks from side to side", "is turning", "looks around"),
    "nodding": ("nods", "nods slowly", "is nodding", "nods the head"),
    "still": ("stays still", "holds still", "does not move", "remains where they are"),
}

PATTERN_PHRASES: dict[str, tuple[str, ...]] = {
    "plain": ("a {} wall", "a plain {} wall", "a plain {} background", "a simple {} backdrop"),
    "striped": ("a {} striped wall", "{} stripes", "a striped {} background"),
    "dotted": ("a {} dotted wall", "a {} wall with dots", "a {} background with dots"),
    "checkered": ("a {} checkered wall", "{} checkered tiles", "a checkered {} background"),
    "brick": ("a {} brick wall", "a wall of {} bricks", "{} bricks"),
    "hills": ("{} hills", "rolling {} hills", "a landscape of {} hills"),
    "stars": ("a {} sky full of stars", "a {} starry sky", "a {} night sky with stars"),
    "waves": ("{} waves", "a sea of {} waves", "a {} sea"),
}

EXPRESSION_PHRASES: dict[str, tuple[str, ...]] = {
    "neutral": ("", "", "with a neutral expression", "looking calm"),
    "smiling": ("smiling", "with a smile", "looking happy", "with a happy expression"),
    "sad": ("looking sad", "with a sad expression", "frowning", "with a frown"),
    "surprised": (
        "looking surprised",
        "with a surprised expression",
        "with an open mouth",
        "amazed",
    ),
}

LIGHTING_PHRASES: dict[str, tuple[str, ...]] = {
    "neutral": ("", "", "in daylight", "in neutral light"),
    "warm": ("in warm light", "under warm lamps", "lit warmly", "in a warm glow"),
    "cold": ("in cold light", "under cold lamps", "lit coldly", "in a cold glow"),
    "dim": ("in dim light", "in the dark", "dimly lit", "in faint light"),
}

HAT_PHRASES: dict[str, tuple[str, ...]] = {
    "none": ("",),
    "some": ("wearing a {} hat", "in a {} hat", "with a {} hat on"),
}

#: What a caption says of a clip -> the values that it may have.
FIELDS: dict[str, tuple[str, ...]] = {
    "color": COLORS,
    "pattern": PATTERNS,
    "motion": MOTIONS,
    "expression": EXPRESSIONS,
    "lighting": LIGHTINGS,
    "hat": HATS,
}

PLACES = ("in front of", "before", "against")


def split_words(text: str) -> list[str]:
    """The words of a text in lower case, without punctuation."""
    return re.findall(r"[a-z]+", text.lower())


def vocabulary() -> list[str]:
    """Every word that a caption can hold, sorted; punctuation is the comma alone."""
    phrases: list[str] = [*SUBJECTS, *PLACES, *COLORS, *HATS[1:]]
    tables = (MOTION_PHRASES, PATTERN_PHRASES, EXPRESSION_PHRASES, LIGHTING_PHRASES, HAT_PHRASES)
    for table in tables:
        for options in table.values():
            phrases.extend(options)
    return sorted({word for phrase in phrases for word in split_words(phrase)})

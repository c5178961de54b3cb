"""A procedural world of drawn faces whose identity, motion and scene are known exactly."""

from miniature.words import vocabulary
from miniature.world.attributes import ClipAttributes, write_caption
from miniature.world.identity import Identity
from miniature.world.layouts import write_layout
from miniature.world.render import WorldClip, render_clip, render_portrait
from miniature.world.world import SPLITS, World

__all__ = [
    "SPLITS",
    "ClipAttributes",
    "Identity",
    "World",
    "WorldClip",
    "render_clip",
    "render_portrait",
    "vocabulary",
    "write_caption",
    "write_layout",
]

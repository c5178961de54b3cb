"""A procedural world of drawn faces whose identity, motion and scene are known exactly."""

from bench.world.attributes import ClipAttributes, write_caption
from bench.world.identity import Identity
from bench.world.render import WorldClip, render_clip, render_portrait
from bench.world.world import SPLITS, World
from metrics.miniature.words import vocabulary

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
]

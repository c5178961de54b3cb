"""Damage that FFmpeg's own decoders pass over."""

from __future__ import annotations

from typing import Any

import av


def second_decoder(context: Any) -> Any:
    """A second decoder that notices damage which FFmpeg's own decodes without a word, if any.

    FFmpeg's VP9 reads on beyond a damaged frame's end and libvpx doesn't; the libvpx of PyAV's
    wheels takes 8 bits only.
    """
    parts = context.format.components if context.format is not None else ()
    if context.codec.canonical_name != "vp9" or any(part.bits != 8 for part in parts):
        return None
    try:
        return av.CodecContext.create("libvpx-vp9", "r")
    except av.codec.codec.UnknownCodecError:  # a PyAV that was built without it
        return None

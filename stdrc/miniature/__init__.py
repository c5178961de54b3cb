"""The miniature: the same pipeline and the same diffusers classes, small enough for a laptop."""

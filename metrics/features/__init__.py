"""Networks by name, and what they give of frames, faces and clips."""

# Each registers its features.
from metrics.features import clips, faces, frames, protocol  # noqa: F401

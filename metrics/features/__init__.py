"""Networks by name, and what they give of frames, faces and clips."""

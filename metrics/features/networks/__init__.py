"""Model wrappers: each turns frames or text into vectors, and says by which weights."""

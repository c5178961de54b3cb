"""What a video is made with where nothing else is said: LTX-2's own size, and the steps."""

STEPS = 30
HEIGHT, WIDTH, NUM_FRAMES, FRAME_RATE = 512, 768, 121, 24.0

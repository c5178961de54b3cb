"""Wan's image-to-video pipeline as a generator; docs/extending.md says how to run it."""

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.utils import load_image

from bench.generators import Generator, Resolved, checkpoint_hash, pick_device


class Wan(Generator):
    def __init__(self, checkpoint, device="auto", dtype="bfloat16"):
        self.checkpoint, self.device, self.dtype = checkpoint, pick_device(device), dtype
        self.name, self.pipe = f"wan:{checkpoint}", None

    def resolve(self, settings, *, allow_mismatch=False):
        weights = {"wan": checkpoint_hash(self.checkpoint), "dtype": self.dtype}
        return Resolved(settings, weights, passes=2 * (settings.steps or 50), fps=16.0)

    def generate(self, samples, settings):
        if self.pipe is None:
            load, dtype = WanImageToVideoPipeline.from_pretrained, getattr(torch, self.dtype)
            self.pipe = load(self.checkpoint, torch_dtype=dtype).to(self.device)
        given = {"num_inference_steps": settings.steps, "guidance_scale": settings.text}
        given |= {n: getattr(settings, n) for n in ("height", "width", "num_frames")}
        given = {n: v for n, v in given.items() if v is not None} | dict(settings.args)
        images = [load_image(str(sample.references[0])) for sample in samples]
        noise = [torch.Generator().manual_seed(settings.seed) for _ in samples]
        each = zip(images, samples, noise)
        return [self.pipe(i, s.prompt, generator=g, **given).frames[0] for i, s, g in each]

"""How often a face backend's box agrees with given boxes, over every frame of a video.

    python benchmarks/face_boxes.py VIDEO BOXES.json [--backend facenet] [--every 1]

BOXES.json is in the form of ConsisID's training data: for each frame number {"face": [{"box":
{"x1", "y1", "x2", "y2"}}]}. Frames with exactly one given face count; agreement is an IoU above 0.5
with any found face.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from torchvision.ops import box_iou

from media.video import VideoReader
from metrics.features.face_backends import load_face_backend


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("boxes", type=Path)
    parser.add_argument("--backend", default="facenet")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    given = json.loads(arguments.boxes.read_text())
    reader = VideoReader(arguments.video)
    chosen = [i for i in range(len(reader)) if len(given.get(str(i), {}).get("face", [])) == 1]
    chosen = chosen[:: arguments.every]
    backend = load_face_backend(arguments.backend)
    overlaps = []
    for indices, frames in reader.stream(np.array(chosen)):
        for index, faces in zip(indices.tolist(), backend.detect(frames)):
            box = given[str(index)]["face"][0]["box"]
            truth = torch.tensor([[box[k] for k in ("x1", "y1", "x2", "y2")]])
            overlaps.append(float(box_iou(faces.boxes, truth).max()) if len(faces) else 0.0)
    agree = np.array(overlaps) > 0.5
    print(
        f"{arguments.backend}: IoU > 0.5 in {agree.sum()} of {len(agree)} frames "
        f"({100 * agree.mean():.1f} %), median IoU {np.median(overlaps):.3f}, "
        f"no face in {int((np.array(overlaps) == 0).sum())}"
    )


if __name__ == "__main__":
    main()

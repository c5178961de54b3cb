"""Our metrics beside the code of those who define them, on one video, one row each.

    python benchmarks/peers.py VIDEO --reference FACE --peers FOLDER [--keep ROWS.jsonl]

FOLDER holds checkouts (or bare mirrors) of the peers' repositories, by the names in `SOURCES`; what
is not there is skipped with a line, as is what a package that isn't installed would give. Networks
whose weights nobody can ship are random on both sides: a row says that both do the same to a video,
not that either agrees with a published number. Exits with 1 where a difference is above its row's
tolerance. `--markdown` prints docs/metrics.md's table. `--keep` holds the rows of peers that are
done, so that a run that was stopped goes on with the next peer.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from torch import nn

from media.images import read_image
from media.video import VideoReader, read_clip
from metrics.copying import CopyPaste
from metrics.features.face_backends.curricularface import ImprovedResNet
from metrics.features.frames import FrameFeature
from metrics.features.models import Models
from metrics.features.networks.flow import DISFlow
from metrics.features.protocol import ProtocolFaces, ProtocolFacesFeature
from metrics.frechet import frechet_distance
from metrics.kernel import kernel_distance
from metrics.leakage import crop_ssim
from metrics.motion import dynamic_degree, farneback_motion, motion_magnitudes
from metrics.protocols import OpenS2VArc, OpenS2VCur
from metrics.quality import OpenS2VAesthetics, VBenchAesthetics
from metrics.smoothness import AMT, MotionSmoothness
from metrics.temporal import feature_consistency, temporal_flicker
from metrics.text import OverallConsistency

SOURCES = {
    "VBench": "Vchitect/VBench",
    "OpenS2V-Eval": "PKU-YuanGroup/OpenS2V-Nexus",
    "MultiID-Bench": "Doby-Xu/WithAnyone",
}


class Row(NamedTuple):
    """One number and its peer's."""

    metric: str
    peer: str
    ours: float
    theirs: float
    tolerance: float = 1e-6


class Skipped(Exception):
    """A peer that isn't here."""


def checkout(peers: Path, name: str, inside: str, folder: Path) -> Path:
    """The peer's files below ``inside``, in a folder of their own."""
    source = next(
        (p for p in (peers / SOURCES[name].replace("/", "+") / "repo", peers / name) if p.is_dir()),
        None,
    )
    if source is None:
        raise Skipped(f"{name}: no checkout of {SOURCES[name]} in {peers}")
    target = folder / name
    target.mkdir(exist_ok=True)
    files = subprocess.run(
        ["git", "-C", str(source), "archive", "HEAD", inside], capture_output=True, check=True
    )
    subprocess.run(["tar", "x", "-C", str(target)], input=files.stdout, check=True)
    return target


def stand_in(*names: str) -> None:
    """Empty modules for what a peer imports at its head and doesn't need here."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError:
            module = types.ModuleType(name)
            module.__getattr__ = lambda attribute: lambda *_, **__: None  # type: ignore[method-assign]
            sys.modules[name] = module


def package(name: str, folder: Path) -> None:
    """A package whose own `__init__` isn't run."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return make().eval().requires_grad_(False)


class Patches(nn.Module):
    """Stands for a network of images [N, 3, 224, ...]: a fixed projection of the picture."""

    def __init__(self, width: int = 768) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, width, 16, 16)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.convolution(images).mean(dim=(2, 3)) * 10

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        return self(images)


# --- VBench --------------------------------------------------------------------------------------


def vbench(peers: Path, folder: Path, video: Path, short: np.ndarray) -> Iterator[Row]:
    root = checkout(peers, "VBench", "vbench", folder)
    stand_in("clip", "omegaconf", "easydict", "timm.models.registry")
    package("vbench", root / "vbench")
    # Its tokenizer would be downloaded; open_clip ships the same file.
    (folder / "ViCLIP").mkdir()
    os.environ["VBENCH_CACHE_DIR"] = str(folder)
    words = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
    shutil.copy(words, folder / "ViCLIP")

    def module(name: str) -> Any:
        return importlib.import_module(f"vbench.{name}")

    utils = module("utils")
    frames = read_clip(video).frames
    theirs = module("temporal_flickering").cal_score(str(video))
    yield Row("temporal.flicker", "VBench", temporal_flicker(frames), theirs)

    network = seeded(Patches)
    planes = torch.from_numpy(frames).permute(0, 3, 1, 2).float()  # as VBench's load_video has them
    rows = network(utils.dino_transform(224)(planes))
    theirs = module("subject_consistency").subject_consistency(network, [str(video)], "cpu", False)
    yield Row("temporal.subject_consistency", "VBench", feature_consistency(rows), theirs[0])
    rows = network(utils.clip_transform(224)(planes))
    theirs = module("background_consistency").background_consistency(
        network, None, [str(video)], "cpu", False
    )
    yield Row("temporal.background_consistency", "VBench", feature_consistency(rows), theirs[0])

    head = seeded(lambda: nn.Linear(768, 1))
    torch.save(head.state_dict(), folder / "linear.pth")
    models = Models(weights={"laion.linear": folder / "linear.pth"})
    models.add_feature(FrameFeature("clip_l14.vbench", _Transformed(network, utils)))
    metric = VBenchAesthetics(models=models)
    metric.update(frames)
    theirs = module("aesthetic_quality").laion_aesthetic(head, network, [str(video)], "cpu")[0]
    yield Row("vbench.aesthetic_quality", "VBench", float(metric.compute()), theirs)

    judge = object.__new__(module("dynamic_degree").DynamicDegree)
    judge.device, flow = "cpu", DISFlow()
    taken = judge.get_frames(str(video))
    lengths, shown = [], [f[0].permute(1, 2, 0).byte().numpy()[None] for f in taken]
    for a, b in pairwise(shown):
        lengths.append(judge.get_score(taken[0], flow.flow(a, b)))
    judge.set_params(taken[0], len(taken))
    fps = VideoReader(video).info.fps
    ours = motion_magnitudes(frames, fps, flow, short_side=None)
    yield Row(
        "motion.magnitude (DIS, full size)",
        "VBench",
        float(ours.mean()),
        float(np.mean(lengths)) / judge.params["thres"],
        1e-5,
    )
    ours = dynamic_degree(frames, fps, flow, short_side=None)
    yield Row("dynamic degree (DIS, full size)", "VBench", ours, float(judge.check_move(lengths)))
    yield from vbench_networks(module, folder, short)


class _Transformed:
    """A network of images as an encoder of frames, by VBench's transform."""

    name, version = "patches", "1"

    def __init__(self, network: nn.Module, utils: Any) -> None:
        self.network, self.transform = network, utils.clip_transform(224)

    def encode(self, frames: np.ndarray) -> torch.Tensor:
        return self.network(self.transform(torch.from_numpy(frames).permute(0, 3, 1, 2).float()))


def vbench_networks(module: Any, folder: Path, short: np.ndarray) -> Iterator[Row]:
    """Rows of VBench's own networks at random weights, on a few small frames."""
    amt = importlib.import_module("vbench.third_party.amt.networks.AMT-S")
    network = seeded(lambda: amt.Model(corr_radius=3, corr_lvls=4, num_flows=3))
    for parameter in network.parameters():
        parameter.mul_(0.5)  # untrained, it overflows

    def between(first: Any, second: Any, time: Any) -> Any:
        return network(first, second, time, scale_factor=1.0, eval=True)

    judge = object.__new__(module("motion_smoothness").MotionSmoothness)
    judge.device, judge.niters = "cpu", 1
    judge.initialization()
    judge.model = network
    judge.fp.get_frames = lambda _: list(short)
    metric = MotionSmoothness(AMT(between, "random"))
    metric.update(short)
    yield Row("motion.smoothness", "VBench", float(metric.compute()), judge.motion_score("a.mp4"))

    vision = module("third_party.ViCLIP.viclip_vision")
    text = module("third_party.ViCLIP.viclip_text")
    seen = seeded(lambda: vision.VisionTransformer(32, 8, 64, 2, 1, output_dim=16, num_frames=8))
    nn.init.normal_(seen.proj)
    read = seeded(lambda: text.CLIP_TEXT(16, 32, 49408, 64, 1, 2, 0))
    for tensor in (read.positional_embedding, read.text_projection):
        nn.init.normal_(tensor)
    state = {f"vision_encoder.{k}": v for k, v in seen.state_dict().items()}
    state |= {f"text_encoder.{k}": v for k, v in read.state_dict().items()}
    torch.save({"model": state}, folder / "viclip.pth")
    prompt = "A person turns the head and smiles in a quiet street."
    overall = OverallConsistency(weights={"viclip.l14": folder / "viclip.pth"})
    overall.update(short, prompt=prompt)
    utils = module("utils")
    indices = utils.get_frame_indices(8, len(short), sample="middle")
    pixels = utils.clip_transform(32)(torch.from_numpy(short[indices]).permute(0, 3, 1, 2))
    ids = read.tokenize(prompt, context_length=32)
    with torch.no_grad():
        cosine = F.cosine_similarity(seen(pixels[None].transpose(1, 2)), read(ids))
    yield Row("vbench.overall_consistency", "VBench", float(overall.compute()), float(cosine))


# --- OpenS2V-Eval --------------------------------------------------------------------------------


def opens2v(
    peers: Path, folder: Path, video: Path, reference: Path, frames: np.ndarray
) -> Iterator[Row]:
    root = checkout(peers, "OpenS2V-Eval", "eval", folder)
    sys.path.insert(0, str(root / "eval"))
    motion = importlib.import_module("get_motionscore")
    shown = motion.sample_video_frames(str(video))
    maps = motion._downscale_maps(motion.compute_farneback_optical_flow(shown)[0])
    theirs = abs(float(motion._motion_score(maps)))
    yield Row("motion.farneback", "OpenS2V-Eval", farneback_motion(frames), theirs)

    beauty = importlib.import_module("get_aesscore")
    head, network = seeded(beauty.MLP), seeded(Patches)
    torch.save(head.state_dict(), folder / "mlp.pth")
    models = Models(weights={"laion.mlp": folder / "mlp.pth"})
    models.add_feature(FrameFeature("clip_l14.rgb", _Plain(network)))
    metric = OpenS2VAesthetics(models=models)
    (given,) = metric.videos_of(frames)
    ours = metric.measure(given).detail["aesthetic"]
    taken = np.stack(beauty.sample_video_frames(str(video), 32))
    rows = _Plain(network).encode(taken)
    theirs = head(rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True)).mean()
    yield Row("opens2v.aesthetics, before anchors", "OpenS2V-Eval", ours, float(theirs))

    from score_speed import Analyser

    package("utils", root / "eval/utils")  # another one may have been imported
    faces = importlib.import_module("get_facesim")
    analyser, ir101 = Analyser(), seeded(ImprovedResNet)
    torch.save(ir101.state_dict(), folder / "ir101.bin")
    theirs_arc, theirs_cur = facesim(faces, analyser, ir101, video, reference)
    models = Models(weights={"curricularface.ir101": folder / "ir101.bin"})
    models.add_feature(ProtocolFacesFeature(ProtocolFaces(analyser), "stand-in"))
    image = read_image(reference)
    for face, value in (
        (OpenS2VArc(models=models), theirs_arc),
        (OpenS2VCur(models=models), theirs_cur),
    ):
        face.update(frames, reference=image)
        name = "arc" if face.feature == "protocol.faces" else "cur"
        yield Row(f"opens2v.facesim_{name}", "OpenS2V-Eval", float(face.compute()), value, 3e-4)


class _Plain:
    name, version = "patches", "1"

    def __init__(self, network: nn.Module) -> None:
        self.network = network

    def encode(self, frames: np.ndarray) -> torch.Tensor:
        return self.network(torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255)


def facesim(faces: Any, analyser: Any, ir101: Any, video: Path, reference: Path) -> Any:
    """OpenS2V-Eval's script with MTCNN and a projection in InsightFace's place, on both sides."""

    class Stand:
        def get(self, bgr: np.ndarray) -> list[dict[str, Any]]:
            boxes, points = analyser.detect(bgr)
            crops = [faces.face_align.norm_crop(bgr, landmark=p, image_size=112) for p in points]
            rows = analyser.embed(crops) if crops else []
            return [
                {"bbox": b, "kps": p.copy(), "embedding": e} for b, p, e in zip(boxes, points, rows)
            ]

    aligned, arcface = faces.process_image(Stand(), str(reference))
    current = faces.inference(ir101, aligned, "cpu")
    cur, arc = faces.process_video(str(video), Stand(), ir101, arcface, current, "cpu")
    return float(arc), float(cur)


# --- the others ----------------------------------------------------------------------------------


def multiid(peers: Path, folder: Path) -> Iterator[Row]:
    root = checkout(peers, "MultiID-Bench", "MultiID-Bench/metrics", folder)
    stand_in("AdaFace.inference", "facexlib.detection", "facexlib.utils.face_restoration_helper")
    sys.path.insert(0, str(root / "MultiID-Bench/metrics"))
    module = importlib.import_module("arcface_metric")
    cls = next(v for v in vars(module).values() if hasattr(v, "calculate_copy_geo_multi_person"))
    generator = torch.Generator().manual_seed(0)
    made, true, shown = F.normalize(torch.randn(3, 512, generator=generator), dim=-1)
    judge = object.__new__(cls)
    judge.get_embeddings = lambda image, model: image[None]
    judge.get_multi_img_embeddings = lambda images, model: torch.stack(images)
    judge.cos = F.cosine_similarity
    theirs = judge.calculate_copy_geo_multi_person(made, true, [shown])
    metric = CopyPaste()
    metric.update(made[None], reference=shown, target=true[None])
    yield Row("copy_paste", "MultiID-Bench", float(metric.compute()), float(theirs.mean()), 1e-5)


def libraries() -> Iterator[Row]:
    """cd-fvd, torch-fidelity and torchmetrics on equal features and crops."""
    from parity import by_cdfvd, by_torch_fidelity, features
    from torch_fidelity.metric_kid import kernel_mmd
    from torchmetrics.functional.image import structural_similarity_index_measure
    from torchmetrics.image.kid import poly_mmd

    x, y = features(1, 200, 400), features(2, 200, 400)
    yield Row("fvd (N)", "cd-fvd", frechet_distance(x, y, ddof=0), by_cdfvd(x, y), 1e-5)
    fid = by_torch_fidelity(x, y)
    yield Row("fid (N - 1)", "torch-fidelity", frechet_distance(x, y), fid, 1e-5)
    kid = float(kernel_mmd(x.numpy(), y.numpy()))
    yield Row("kid", "torch-fidelity", kernel_distance(x, y), kid)
    yield Row("kid", "torchmetrics", kernel_distance(x, y), float(poly_mmd(x, y)))
    first, second = np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), dtype=np.uint8)
    planes = [torch.from_numpy(i).permute(2, 0, 1)[None] / 255 for i in (first, second)]
    theirs = float(structural_similarity_index_measure(*planes, data_range=1.0))
    yield Row("leakage.crop_ssim", "torchmetrics", crop_ssim(first[None], second), theirs)


def consisid(folder: Path, video: Path, reference: Path) -> Iterator[Row]:
    """ConsisID's script as `score_speed` restates it: its repository's own asks for a card."""
    from score_speed import Analyser, Published, with_statistics
    from torchvision.models import inception_v3

    from metrics.protocols import ConsisIDArc, ConsisIDCur, ConsisIDFid

    analyser, ir101 = Analyser(), seeded(ImprovedResNet)
    made = seeded(lambda: inception_v3(weights=None, init_weights=False, transform_input=True))
    inception: Any = with_statistics(made, 299)
    torch.save(ir101.state_dict(), folder / "ir101.bin")
    torch.save(inception.state_dict(), folder / "inception.pth")
    inception.fc = nn.Identity()
    weights = {
        "curricularface.ir101": folder / "ir101.bin",
        "inception.imagenet": folder / "inception.pth",
    }
    models = Models(weights=weights)
    models.add_feature(ProtocolFacesFeature(ProtocolFaces(analyser), "stand-in"))
    image, frames = read_image(reference), read_clip(video).frames
    theirs = Published(analyser, ir101, inception, sqrtm=False).consisid(video, image)
    for cls in (ConsisIDArc, ConsisIDCur, ConsisIDFid):
        metric = cls(models=models)
        metric.update(frames, reference=image)
        name = {"ConsisIDArc": "face_arc", "ConsisIDCur": "face_cur"}.get(cls.__name__, "fid")
        value = theirs[f"consisid.{name}"]
        bound = 3e-4 * max(1.0, abs(value))
        yield Row(f"consisid.{name}", "ConsisID, restated", float(metric.compute()), value, bound)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--markdown", action="store_true")
    asked = parser.parse_args()
    frames = read_clip(asked.video).frames
    short = np.ascontiguousarray(frames[:9, : 128 + 3, : 192 + 5])
    kept: dict[str, list[Row]] = {}
    if asked.keep and asked.keep.is_file():
        for line in asked.keep.read_text().splitlines():
            name, *row = json.loads(line)
            kept.setdefault(name, []).append(Row(*row))
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        peers: dict[str, Callable[[], Iterator[Row]]] = {
            "VBench": lambda: vbench(asked.peers, folder, asked.video, short),
            "OpenS2V": lambda: opens2v(asked.peers, folder, asked.video, asked.reference, frames),
            "MultiID": lambda: multiid(asked.peers, folder),
            "ConsisID": lambda: consisid(folder, asked.video, asked.reference),
            "libraries": libraries,
        }
        for name, peer in peers.items():
            if name in kept:
                continue
            found = kept[name] = []
            try:
                for row in peer():
                    found.append(row)
                    print(*row[:2], f"{row.ours:.9g} {row.theirs:.9g}", file=sys.stderr, flush=True)
            except (Skipped, ImportError) as reason:
                print(f"skipped: {reason}", file=sys.stderr)
                continue
            if asked.keep:
                with asked.keep.open("a") as lines:
                    lines.writelines(f"{json.dumps([name, *row])}\n" for row in found)
    rows = [row for name in peers for row in kept.get(name, ())]
    edge, cell = ("| ", " | ") if asked.markdown else ("", "  ")
    if asked.markdown:
        print("| metric | peer | ours | peer's | difference |\n|---|---|---|---|---|")
    above = False
    for row in rows:
        gap = abs(row.ours - row.theirs)
        above |= not gap <= row.tolerance
        cells = (row.metric, row.peer, f"{row.ours:.7g}", f"{row.theirs:.7g}", f"{gap:.1e}")
        print(edge + cell.join(cells) + edge[::-1])
    return int(above)


if __name__ == "__main__":
    raise SystemExit(main())

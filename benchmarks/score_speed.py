"""The suite against the way published evaluation scripts work, side by side in one run.

    python benchmarks/score_speed.py VIDEO --reference FACE [--engine torch openvino] [--memory]

The slow side restates how the scripts go about it: one script per metric, each opening the video
again and seeking every frame with OpenCV, detecting again, one frame per forward pass, and for
ConsisID's "FID" two 2048 x 2048 covariances and an eigendecomposition a frame (with `--sqrtm`
scipy's matrix root, which other scripts call there). Both sides run the same networks with the
same weights: MTCNN detects, IR-101 and Inception-v3 are random (their published weights aren't
downloadable everywhere; the time doesn't depend on them), dlib is real, and the scripts' embeddings
are of its own C++ network. The values of both sides
are compared too; exits with 1 where one differs by more than 3e-4, relative above 1. Seconds are of
this process's user time, since a shared machine's clock says little. Each engine's row has seconds
per part of the suite; then come ConsisID's and OpenS2V-Eval's faces, each alone and both at once:
they share networks, so both cost the distinct frames of the two. `--memory` scores the video
and a loop of it ten minutes long instead, and reports the memory of each above the models.
"""

from __future__ import annotations

import argparse
import collections
import os
import resource
import tempfile
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import cv2
import dlib
import numpy as np
import psutil
import scipy.linalg
import torch
from PIL import Image
from torchvision import transforms
from torchvision.models import inception_v3

from media.images import read_image
from media.video import VideoReader
from metrics import MetricSuite, VideoItem, passes
from metrics.features.base import feature
from metrics.features.face_backends import Faces, load_face_backend
from metrics.features.face_backends.base import align_five_points, pad_grey, unit_length
from metrics.features.face_backends.curricularface import ImprovedResNet
from metrics.features.networks.engine import ENGINES
from metrics.features.protocol import ProtocolFaces, ProtocolFacesFeature
from metrics.protocols import consisid_frames, opens2v_frames
from metrics.scores import Score
from metrics.weights import require

METRICS = (
    "faces.rate.facenet",
    "identity.dlib",
    "consisid.face_arc",
    "consisid.face_cur",
    "consisid.fid",
    "opens2v.facesim_arc",
    "opens2v.facesim_cur",
    "temporal.flicker",
)


class Analyser:
    """Stands for InsightFace: MTCNN detects, and a fixed projection of pixels is the embedding."""

    def __init__(self) -> None:
        from metrics.features.face_backends.facenet import FacenetFaces

        self.backend = FacenetFaces(detect_size=640)
        self.projection = np.random.default_rng(0).normal(size=(28 * 28 * 3, 512)).astype("f4")

    def detect(self, image_bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        faces = self.backend.detect(np.ascontiguousarray(image_bgr[None, ..., ::-1]))[0]
        return faces.boxes.numpy(), faces.landmarks.numpy()

    def embed(self, crops_bgr: Any) -> np.ndarray:
        small = np.stack([cv2.resize(c, (28, 28)).reshape(-1) for c in crops_bgr])
        return (small / 127.5 - 1).astype("f4") @ self.projection


def stand_in(analyser: Analyser) -> None:
    """Let the protocols' faces come from an analyser of one's own."""
    faces = ProtocolFacesFeature(ProtocolFaces(analyser), "stand-in")
    feature("protocol.faces")(lambda models: faces)


# --- the published way -------------------------------------------------------------------------


def seek_frames(path: Path, indices: np.ndarray) -> list[np.ndarray]:
    capture = cv2.VideoCapture(str(path))
    frames = []
    for index in indices:
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(index))
        ok, frame = capture.read()
        if ok:
            frames.append(frame)
    capture.release()
    return frames


def linspace(path: Path, number: int) -> np.ndarray:
    capture = cv2.VideoCapture(str(path))
    count = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    return np.linspace(0, count - 1, number, dtype=int)


class Published:
    """One method per script; each does all of its work itself."""

    def __init__(
        self, analyser: Analyser, ir101: torch.nn.Module, inception: Any, sqrtm: bool
    ) -> None:
        self.analyser, self.ir101, self.inception = analyser, ir101, inception
        self.sqrtm = sqrtm
        self.dlib = load_face_backend("dlib")
        self.descriptor = dlib.face_recognition_model_v1(str(require("dlib.recognition")))
        self.mtcnn = load_face_backend("facenet")

    def face(self, bgr: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
        source, left, top = bgr, 0, 0
        boxes, points = self.analyser.detect(bgr)
        if len(boxes) == 0:
            source, left, top = pad_grey(bgr)
            boxes, points = self.analyser.detect(source)
            if len(boxes) == 0:
                return None
        sizes = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        landmarks = points[int(np.argsort(sizes, kind="stable")[-1])]

        def crop(image: np.ndarray, at: np.ndarray, size: int) -> np.ndarray:
            one = Faces(torch.zeros(1, 4), torch.from_numpy(at)[None], torch.ones(1))
            return align_five_points(image, one, size)[0]

        arcface = self.analyser.embed([crop(source, landmarks, 112)])[0]
        aligned = crop(bgr, landmarks - np.array([left, top], dtype=landmarks.dtype), 224)
        return arcface, cv2.cvtColor(aligned, cv2.COLOR_BGR2RGB)

    @torch.no_grad()
    def curricular(self, aligned: np.ndarray) -> np.ndarray:
        image = np.transpose(cv2.resize(aligned, (112, 112)), (2, 0, 1))
        tensor = torch.from_numpy(image)[None].float().div_(255).sub_(0.5).div_(0.5)
        embedding = self.ir101(tensor).numpy()[0]
        return embedding / np.linalg.norm(embedding)

    @torch.no_grad()
    def activations(self, aligned: np.ndarray) -> torch.Tensor:
        image = transforms.Resize((299, 299))(Image.fromarray(aligned))
        found = self.inception(transforms.ToTensor()(image)[None])
        return found.repeat(2, 1)

    def fid(self, real: torch.Tensor, fake: torch.Tensor) -> float:
        a, b = torch.cov(real.T), torch.cov(fake.T)
        if self.sqrtm:
            root = torch.from_numpy(np.real(scipy.linalg.sqrtm(a.mm(b).numpy())))
        else:
            values, vectors = torch.linalg.eigh(a.mm(b))
            root = (vectors * values.clamp(min=0).sqrt()).mm(vectors.T)
        gap = (real.mean(0) - fake.mean(0)).square().sum()
        return float(gap + torch.trace(a + b - 2 * root))

    def consisid(self, video: Path, reference: np.ndarray) -> dict[str, float]:
        bgr = cv2.cvtColor(reference, cv2.COLOR_RGB2BGR)
        mine = self.face(bgr)
        assert mine is not None, "the reference has no face"
        cur, real = self.curricular(mine[1]), self.activations(mine[1])
        arcs, curs, fids = [], [], []
        for frame in seek_frames(video, linspace(video, 16)):
            face = self.face(frame)
            if face is None:
                continue
            arcs.append(max(0.0, cosine(mine[0], face[0])))
            curs.append(max(0.0, cosine(cur, self.curricular(face[1]))))
            fids.append(self.fid(real, self.activations(face[1])))
        mean = {"consisid.face_arc": arcs, "consisid.face_cur": curs, "consisid.fid": fids}
        return {k: float(np.mean(v)) if v else 0.0 for k, v in mean.items()}

    def opens2v(self, video: Path, reference: np.ndarray) -> dict[str, float]:
        mine = self.face(cv2.cvtColor(reference, cv2.COLOR_RGB2BGR))
        assert mine is not None, "the reference has no face"
        cur = self.curricular(mine[1])
        arcs, curs = [], []
        for frame in seek_frames(video, linspace(video, 32)):
            face = self.face(frame)
            if face is not None:
                arcs.append(max(0.0, cosine(mine[0], face[0])))
                curs.append(max(0.0, cosine(cur, self.curricular(face[1]))))
        curs = [c for c in curs if c != 0.0]
        return {
            "opens2v.facesim_arc": float(np.mean(arcs)) if arcs else 0.0,
            "opens2v.facesim_cur": float(np.mean(curs)) if curs else 0.0,
        }

    def face_rate(self, video: Path, reference: np.ndarray) -> dict[str, float]:
        frames = seek_frames(video, linspace(video, 16))
        found = [len(self.mtcnn.detect(f[None, ..., ::-1].copy())[0]) > 0 for f in frames]
        return {"faces.rate.facenet": float(np.mean(found))}

    def identity(self, video: Path, reference: np.ndarray) -> dict[str, float]:
        def embed(image: np.ndarray) -> torch.Tensor:
            faces = self.dlib.detect(image[None])[0]
            found = [
                self.descriptor.compute_face_descriptor(c) for c in self.dlib.align(image, faces)
            ]
            return unit_length(torch.from_numpy(np.array(found, dtype="f4").reshape(-1, 128)))

        mine = embed(reference)[0]
        values = []
        for frame in seek_frames(video, linspace(video, 16)):
            found = embed(np.ascontiguousarray(frame[..., ::-1]))
            values.append(float((found @ mine).max()) if len(found) else 0.0)
        return {"identity.dlib": float(np.mean(values))}

    def flicker(self, video: Path, reference: np.ndarray) -> dict[str, float]:
        capture = cv2.VideoCapture(str(video))
        frames = []  # the whole video, as VBench holds it
        while True:
            ok, frame = capture.read()
            if not ok:
                break
            frames.append(frame)
        capture.release()
        gaps = [np.mean(cv2.absdiff(a, b)) for a, b in pairwise(frames)]
        return {"temporal.flicker": float((255.0 - np.mean(gaps)) / 255.0)}


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.dot(a, b) / np.linalg.norm(a) / np.linalg.norm(b))


def user_time() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime


def timed(call: Callable[[], Any]) -> tuple[Any, float, float]:
    """The result, and seconds by the clock and of this process's user time."""
    wall, user = time.perf_counter(), user_time()
    result = call()
    used = user_time() - user
    return result, time.perf_counter() - wall, used


class Parts(collections.Counter[str]):
    """User seconds of each feature of the pass, and of the thread that decodes."""

    def __enter__(self) -> Parts:
        self.was = passes._compute, passes.Pass._decode
        compute, decode = self.was

        def computed(feature: Any, parts: Any) -> None:
            start = user_time()
            compute(feature, parts)
            self[feature.name] += user_time() - start

        def decoded(one: Any, job: Any) -> Any:
            pieces = decode(one, job)
            while True:
                start = time.thread_time()
                piece = next(pieces, None)
                self["decoding, in its thread"] += time.thread_time() - start
                if piece is None:
                    return
                yield piece

        passes._compute, passes.Pass._decode = computed, decoded  # type: ignore[method-assign]
        return self

    def __exit__(self, *_: object) -> None:
        passes._compute, passes.Pass._decode = self.was  # type: ignore[method-assign]


@torch.no_grad()
def with_statistics(network: torch.nn.Module, side: int) -> torch.nn.Module:
    """A random network whose normalisations know its own activations; without, they vanish."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            module.momentum = None
    network.train()(torch.rand(4, 3, side, side) * 2 - 1)
    return network.eval()


def stand_ins(folder: Path) -> tuple[dict[str, Path], Any, Any]:
    """Files of random weights, IR-101 and Inception."""
    torch.manual_seed(0)
    ir101 = with_statistics(ImprovedResNet(), 112)
    made = inception_v3(weights=None, init_weights=False, transform_input=True)
    inception: Any = with_statistics(made, 299)
    (folder / "pack").mkdir()
    (folder / "pack/stand-in").write_bytes(b"MTCNN stands for this pack")
    weights = {
        "insightface.buffalo_l": folder / "pack",
        "curricularface.ir101": folder / "ir101.bin",
        "inception.imagenet": folder / "inception.pth",
    }
    torch.save(ir101.state_dict(), weights["curricularface.ir101"])
    torch.save(inception.state_dict(), weights["inception.imagenet"])
    inception.fc = torch.nn.Identity()
    return weights, ir101, inception


def scored(suite: MetricSuite, items: list[VideoItem]) -> dict[str, float]:
    assert not suite.absent, suite.absent
    rows = suite.score(items)
    failed = [f"{r.metric}: {r.reason}" for r in rows if r.status != "ok"]
    assert not failed, failed
    return {r.metric: r.value for r in rows if isinstance(r, Score) and r.value is not None}


def speed(
    video: Path, reference: Path, videos: int, sqrtm: bool, engines: list[str], folder: Path
) -> bool:
    """Print seconds of both sides and their scores; whether all scores agree."""
    weights, ir101, inception = stand_ins(folder)
    analyser = Analyser()
    stand_in(analyser)
    items = [VideoItem(video, str(i), references=(reference,)) for i in range(videos)]
    fast, used = {}, {}
    for engine in engines:
        suite = MetricSuite(METRICS, weights=weights, engine=engine)
        with Parts() as parts:
            fast[engine], *used[engine] = timed(lambda suite=suite: scored(suite, items))
        user = used[engine][1]
        print(f"suite, {engine}, {videos} video(s), {len(METRICS)} metrics: {user:.1f} s")
        parts["the rest"] = user - parts.total()
        for part, seconds in parts.most_common():
            print(f"    {part:24} {seconds:5.1f} s", flush=True)
    published = Published(analyser, ir101, inception, sqrtm)
    image = read_image(reference)
    total_wall = total_user = 0.0
    worst = dict.fromkeys(engines, 0.0)
    for name in ("consisid", "opens2v", "face_rate", "identity", "flicker"):
        script = getattr(published, name)
        slow, script_wall, script_user = timed(lambda script=script: script(video, image))
        total_wall, total_user = total_wall + script_wall, total_user + script_user
        print(f"  script {name}: {script_user:.1f} s")
        for metric, value in slow.items():
            line = f"    {metric:22} script {value:.6g}"
            for engine in engines:
                gap = abs(value - fast[engine][metric]) / max(1.0, abs(value))
                worst[engine] = max(worst[engine], gap)
                line += f"  {engine} {fast[engine][metric]:.6g} {gap:.1e}"
            print(line, flush=True)
    print(f"scripts, 1 video: {total_user:.1f} s")
    for engine, (wall, user) in used.items():
        print(
            f"{engine}: ratio per video {total_user * videos / user:.2f} "
            f"({total_wall * videos / wall:.2f} by the clock); "
            f"greatest difference {worst[engine]:.1e}",
            flush=True,
        )
    sharing(items, weights)
    return max(worst.values()) <= 3e-4


def sharing(items: list[VideoItem], weights: dict[str, Path]) -> None:
    """Print what ConsisID's and OpenS2V-Eval's faces cost, alone and at once."""
    count = len(VideoReader(items[0].video))
    frames = {"consisid.face_*": consisid_frames(count), "opens2v.facesim_*": opens2v_frames(count)}
    frames = {name: set(taken.tolist()) for name, taken in frames.items()}
    cost = []
    for asked in [[name] for name in frames] + [list(frames)]:
        suite = MetricSuite(asked, weights=weights)
        _, _, user = timed(lambda suite=suite: scored(suite, items))
        seen = len(set().union(*(frames[name] for name in asked)))
        cost.append((seen, user))
        print(f"{' and '.join(asked)}: {user:.1f} s for {seen} distinct frames per video")
    (_, (single, alone), (union, both)) = cost
    ratio = both / (alone * union / single)
    print(f"both cost {ratio:.2f}x what their {union} distinct frames cost by the second alone")


# --- memory ------------------------------------------------------------------------------------


def looped(source: Path, target: Path, minutes: float) -> None:
    """Repeat a video's packets, without encoding them again."""
    with av.open(str(target), "w") as output:
        first = av.open(str(source))
        stream = output.add_stream_from_template(first.streams.video[0])
        first.close()
        offset = 0
        while True:
            with av.open(str(source)) as container:
                video = container.streams.video[0]
                length = int(video.duration or 0)
                if float(offset * video.time_base) >= minutes * 60:
                    return
                for packet in container.demux(video):
                    if packet.dts is None or packet.pts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = stream
                    output.mux(packet)
                offset += length


def memory(video: Path, reference: Path, minutes: float, folder: Path) -> None:
    process = psutil.Process(os.getpid())
    suite = MetricSuite(["faces.rate.facenet", "identity.dlib", "temporal.flicker"])
    before = process.memory_info().rss
    long = folder / "long.mp4"
    looped(video, long, minutes)
    peak, stop = [0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for path in (video, long):
        peak[0] = 0
        rows, wall, _ = timed(
            lambda path=path: suite.score([VideoItem(path, path.name, references=(reference,))])
        )
        frames = next(r.detail["frames"] for r in rows if r.metric == "temporal.flicker")
        above = (peak[0] - before) / 2**20
        print(f"{path.name}: {frames} frames, {wall:.0f} s, {above:.0f} MiB above the models")
    stop.set()
    watcher.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("video", type=Path)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--videos", type=int, default=1, help="how often the suite scores it")
    parser.add_argument(
        "--sqrtm", action="store_true", help="scipy's matrix root in the script's FID, as in FVD's"
    )
    parser.add_argument("--engine", nargs="+", default=["torch"], choices=ENGINES)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            memory(arguments.video, arguments.reference, arguments.minutes, Path(folder))
        else:
            asked = arguments.videos, arguments.sqrtm, arguments.engine
            return int(not speed(arguments.video, arguments.reference, *asked, Path(folder)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

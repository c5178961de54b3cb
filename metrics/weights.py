"""Where weights come from: a table, where each is looked for, and what can be scored here.

A file is looked for, in this order: at the path given explicitly; in the folder that the variable
``STDRC_WEIGHTS`` names (``~/.cache/stdrc/weights`` if none), where `stdrc weights fetch` puts
what the hub does not have; in the Hugging Face cache (never over the network); where the
library that uses it keeps it; inside an installed package that ships it. What isn't found makes
its metrics *absent*, with the command or file that would enable them; nothing runs on random
weights.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from media.files import file_sha256, tree_sha256
from metrics.errors import MetricsError, WeightsMissingError


@dataclass(frozen=True)
class Weights:
    """One file or folder of weights.

    Attributes:
        name: what the rest of the package calls it.
        purpose: what it is for.
        file: its name in the ``STDRC_WEIGHTS`` folder; a folder's name ends with a slash.
        hub: repository on the Hugging Face hub, where it is published there.
        hub_file: path in that repository; empty for the whole repository.
        package: module that ships it, with ``package_file`` inside it.
        places: where libraries keep it, ``~`` for the home folder, ``torch:`` for torch's.
        sha256: of the file, as far as it is known: the whole digest or its start.
        license: of the weights, in short; whoever downloads them has to accept it.
        enable: the one command or file that makes it available; 'stdrc weights fetch' if empty.
        url: where it is published as one file, or as a zip archive of the folder.
        megabytes: its size as its publisher states it; 0 where none does.
    """

    name: str
    purpose: str
    file: str
    license: str
    enable: str = ""
    hub: str = ""
    hub_file: str = ""
    package: str = ""
    package_file: str = ""
    places: tuple[str, ...] = ()
    sha256: str = ""
    url: str = ""
    megabytes: float = 0

    def __post_init__(self) -> None:
        if not self.enable:
            object.__setattr__(self, "enable", f"stdrc weights fetch {self.name}")


def calibration(backend: str, package: str = "", package_file: str = "") -> Weights:
    """The row of a face backend's calibration, which `metrics.verification` measures."""
    file = f"{backend}.calibration.json"
    return Weights(
        f"calibration.{backend}",
        f"threshold and scale of cosines (identity.{backend}.verified, .calibrated)",
        file,
        "numbers, no network",
        f'python -m metrics.verification {backend} PHOTOGRAPHS --out "$STDRC_WEIGHTS/{file}"',
        package=package,
        package_file=package_file,
    )


def _pyiqa(name: str, file: str, purpose: str) -> Weights:
    """A network of pyiqa, from where that package gets it."""
    pages = "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights"
    return Weights(name, purpose, file, "PolyForm Noncommercial (pyiqa)", url=f"{pages}/{file}")


def _dlib(name: str, file: str, purpose: str, terms: str = "CC0") -> Weights:
    """A file of dlib's, as the package face_recognition_models ships it."""
    return Weights(
        f"dlib.{name}",
        f"{purpose} (identity.dlib)",
        file,
        terms,
        "pip install dlib-bin face-recognition-models",
        package="face_recognition_models",
        package_file=f"models/{file}",
    )


def _torchvision(name: str, file: str, purpose: str, megabytes: float, terms: str = "") -> Weights:
    """A file of torchvision's, which ends with the start of its SHA-256."""
    return Weights(
        name,
        purpose,
        file,
        f"BSD-3-Clause{terms}",
        places=(f"torch:hub/checkpoints/{file}",),
        sha256=Path(file).stem.rpartition("-")[2],
        url=f"https://download.pytorch.org/models/{file}",
        megabytes=megabytes,
    )


_ZOO = "https://github.com/deepinsight/insightface/releases/download/model-zoo"
_INSIGHTFACE_LICENSE = "non-commercial research only (InsightFace model zoo)"
_CONSISID = "BestWishYsh/ConsisID-preview"

WEIGHTS: dict[str, Weights] = {
    w.name: w
    for w in (
        Weights(
            "facenet.mtcnn",
            "face detection and five landmarks (facenet)",
            "pnet.pt",
            "MIT, shipped with facenet-pytorch",
            "pip install facenet-pytorch",
            package="facenet_pytorch",
            package_file="data/pnet.pt",
        ),
        Weights(
            "facenet.vggface2",
            "face recognition InceptionResnetV1 (identity.facenet)",
            "20180402-114759-vggface2.pt",
            "MIT code; VGGFace2 data is for research",
            places=("torch:checkpoints/20180402-114759-vggface2.pt",),
            url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/"
            "20180402-114759-vggface2.pt",
        ),
        _dlib(
            "recognition",
            "dlib_face_recognition_resnet_model_v1.dat",
            "128-d face recognition network",
        ),
        _dlib("landmarks5", "shape_predictor_5_face_landmarks.dat", "five landmarks for aligning"),
        _dlib(
            "landmarks68",
            "shape_predictor_68_face_landmarks.dat",
            "68 landmarks, of which eyes, nose and mouth are reported",
            "iBUG 300-W data is for research, not for commercial use",
        ),
        Weights(
            "insightface.buffalo_l",
            "face detection and ArcFace recognition (insightface, consisid, opens2v)",
            "buffalo_l/",
            _INSIGHTFACE_LICENSE,
            places=("~/.insightface/models/buffalo_l",),
            url=f"{_ZOO}/buffalo_l.zip",
        ),
        Weights(
            "insightface.antelopev2",
            "face detection and ArcFace recognition (insightface, pack antelopev2)",
            "antelopev2/",
            _INSIGHTFACE_LICENSE,
            hub=_CONSISID,
            hub_file="face_encoder/models/antelopev2",
            places=("~/.insightface/models/antelopev2",),
        ),
        Weights(
            "curricularface.ir101",
            "CurricularFace IR-101 recognition (identity.curricularface, consisid, opens2v)",
            "glint360k_curricular_face_r101_backbone.bin",
            "not stated by the repository that publishes it; TFace code is Apache-2.0",
            hub=_CONSISID,
            hub_file="face_encoder/glint360k_curricular_face_r101_backbone.bin",
        ),
        _torchvision(
            "inception.imagenet",
            "inception_v3_google-0cc3c7bd.pth",
            "torchvision Inception-v3 features (consisid.fid)",
            103.9,
            " code; ImageNet data is for research",
        ),
        Weights(
            "clip.vit_b32",
            "CLIP ViT-B/32 (text.clip, consisid.clip_score, temporal.background_consistency)",
            "clip-vit-base-patch32/",
            "MIT",
            hub="openai/clip-vit-base-patch32",
        ),
        Weights(
            "dino.vitb16",
            "DINO ViT-B/16 (temporal.subject_consistency)",
            "dino-vitb16/",
            "Apache-2.0",
            hub="facebook/dino-vitb16",
        ),
        Weights(
            "i3d.torchscript",
            "I3D on Kinetics-400, 400-d, of StyleGAN-V (fvd.i3d)",
            "i3d_torchscript.pt",
            "not stated by the page that publishes it",
            url="https://www.dropbox.com/s/ge9e5ujwgetktms/i3d_torchscript.pt?dl=1",
        ),
        Weights(
            "inception.fid",
            "Inception-v3 of FID, 2048-d, as TorchScript (fid, kid)",
            "inception-2015-12-05.pt",
            "Apache-2.0",
            url="https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/"
            "inception-2015-12-05.pt",
        ),
        Weights(
            "videomae.base",
            "VideoMAE-base features (fvd.videomae_base, kvd.videomae_base)",
            "videomae-base-finetuned-kinetics/",
            "CC-BY-NC-4.0",
            hub="MCG-NJU/videomae-base-finetuned-kinetics",
        ),
        Weights(
            "videomae.v2",
            "VideoMAE-v2 ViT-g features of cd-fvd (fvd.videomae_v2, kvd.videomae_v2)",
            "vit_g_hybrid_pt_1200e_ssv2_ft.pth",
            "not stated by the page that publishes it; VideoMAEv2 code is MIT",
            hub="OpenGVLab/VideoMAE2",
            hub_file="mae-g/vit_g_hybrid_pt_1200e_ssv2_ft.pth",
        ),
        Weights(
            "open_clip.vit_b32",
            "CLIP ViT-B/32 through open_clip (text.open_clip_score)",
            "ViT-B-32.pt",
            "MIT",
            # open_clip itself downloads this one; its older versions kept OpenAI's own file.
            hub="timm/vit_base_patch32_clip_224.openai",
            hub_file="open_clip_model.safetensors",
            places=("~/.cache/clip/ViT-B-32.pt",),
        ),
        Weights(
            "xclip.base",
            "X-CLIP base, patch 32 (text.xclip_score)",
            "xclip-base-patch32/",
            "MIT",
            hub="microsoft/xclip-base-patch32",
        ),
        _torchvision(
            "raft.large",
            "raft_large_C_T_SKHT_V2-ff5fadd5.pth",
            "RAFT optical flow (temporal.warping_error.raft, temporal.dynamic_degree.raft)",
            20.1,
        ),
        _torchvision(
            "lpips.alexnet",
            "alexnet-owt-7be5be79.pth",
            "torchvision's AlexNet under LPIPS (leakage.crop_lpips)",
            233.1,
            " code; ImageNet data is for research",
        ),
        Weights(
            "clip.vit_l14",
            "CLIP ViT-L/14 under the aesthetic predictors (quality.aesthetic, opens2v, vbench)",
            "clip-vit-large-patch14/",
            "MIT",
            hub="openai/clip-vit-large-patch14",
        ),
        Weights(
            "laion.mlp",
            "LAION's improved aesthetic predictor (quality.aesthetic, opens2v.aesthetics)",
            "aesthetic-model.pth",
            "Apache-2.0",
            hub="BestWishYsh/OpenS2V-Weight",
            hub_file="aesthetic-model.pth",
        ),
        Weights(
            "laion.linear",
            "LAION's linear aesthetic predictor (vbench.aesthetic_quality)",
            "sa_0_4_vit_l_14_linear.pth",
            "MIT",
            url="https://github.com/LAION-AI/aesthetic-predictor/raw/main/sa_0_4_vit_l_14_linear.pth",
            places=("~/.cache/vbench/aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth",),
        ),
        _pyiqa("musiq.koniq", "musiq_koniq_ckpt-e95806b9.pth", "MUSIQ (quality.imaging)"),
        _pyiqa("musiq.spaq", "musiq_spaq_ckpt-358bb6af.pth", "MUSIQ (vbench.imaging_quality)"),
        _pyiqa("maniqa.koniq", "ckpt_koniq10k.pt", "MANIQA (quality.maniqa)"),
        Weights(
            "maniqa.vit",
            "the ViT-B/8 that pyiqa builds MANIQA on (quality.maniqa)",
            "vit_base_patch8_224/",
            "Apache-2.0",
            hub="timm/vit_base_patch8_224.augreg2_in21k_ft_in1k",
        ),
        Weights(
            "viclip.l14",
            "ViCLIP-L/14 of InternVid-10M-FLT (text.viclip_score, vbench.overall_consistency)",
            "ViClip-InternVid-10M-FLT.pth",
            "Apache-2.0",
            hub="OpenGVLab/VBench_Used_Models",
            hub_file="ViClip-InternVid-10M-FLT.pth",
            places=("~/.cache/vbench/ViCLIP/ViClip-InternVid-10M-FLT.pth",),
        ),
        Weights(
            "amt.torchscript",
            "AMT-S frame interpolation, scripted (motion.smoothness)",
            "amt-s.pt",
            "CC-BY-NC-4.0",
            "script AMT-S as docs/metrics.md says, into the folder that STDRC_WEIGHTS names",
        ),
        Weights(
            "vjepa2.ssv2",
            "V-JEPA 2 ViT-L with the attentive probe of Something-Something (jedi.vjepa2)",
            "vjepa2-vitl-fpc16-256-ssv2/",
            "MIT",
            hub="facebook/vjepa2-vitl-fpc16-256-ssv2",
        ),
        calibration("dlib", "metrics", "features/face_backends/dlib.calibration.json"),
        *map(calibration, ("facenet", "insightface", "curricularface")),
    )
}


def declare_weights(*rows: Weights) -> None:
    """Add rows to :data:`WEIGHTS`, as a plug-in does for the weights that it ships."""
    WEIGHTS.update({row.name: row for row in rows})


def _exists(path: Path, folder: bool) -> bool:
    return (path.is_dir() and any(path.iterdir())) if folder else path.is_file()


def _hub_path(weights: Weights, folder: bool) -> Path | None:
    """The file or snapshot folder in the Hugging Face cache, without asking the network."""
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache
    from huggingface_hub.errors import CacheNotFound

    if not folder:
        cached = try_to_load_from_cache(weights.hub, weights.hub_file)
        return Path(cached) if isinstance(cached, str) else None
    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return None
    for repository in repositories:
        if repository.repo_id == weights.hub and repository.repo_type == "model":
            revisions = sorted(repository.revisions, key=lambda r: r.last_modified, reverse=True)
            for revision in revisions:
                path = revision.snapshot_path / weights.hub_file
                if _exists(path, True):
                    return path
    return None


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def _torch_home() -> Path:
    """Where torch.hub, torchvision and facenet-pytorch keep what they download."""
    return Path(os.environ.get("TORCH_HOME") or _caches() / "torch").expanduser()


def cache_folder() -> Path:
    """The folder of weights that no library has a place for: ``STDRC_WEIGHTS``, or our cache."""
    return Path(os.environ.get("STDRC_WEIGHTS") or _caches() / "stdrc/weights").expanduser()


def find(name: str, path: str | Path | None = None) -> Path | None:
    """Where the weights called ``name`` are on this machine, or None.

    Args:
        name: a key of :data:`WEIGHTS`.
        path: an explicit path, looked at first and, if given, instead of all other places.

    Raises:
        MetricsError: no weights have that name, or ``path`` was given and isn't there.
    """
    if name not in WEIGHTS:
        raise MetricsError(f"no weights are called {name!r}; there are: {', '.join(WEIGHTS)}.")
    weights = WEIGHTS[name]
    folder = weights.file.endswith("/")
    if path is not None:
        path = Path(path).expanduser()
        if not _exists(path, folder):
            kind = "folder" if folder else "file"
            raise MetricsError(f"the weights {name} aren't at {path}; pass the path of a {kind}.")
        return path
    if _exists(candidate := cache_folder() / weights.file, folder):
        return candidate
    if weights.hub and (cached := _hub_path(weights, folder)):
        return cached
    for place in weights.places:
        candidate = Path(place.replace("torch:", f"{_torch_home()}/")).expanduser()
        if _exists(candidate, folder):
            return candidate
    if weights.package:
        # The spec, not an import: face_recognition_models imports pkg_resources, which recent
        # setuptools no longer have.
        spec = importlib.util.find_spec(weights.package)
        if spec is not None and spec.origin:
            candidate = Path(spec.origin).parent / weights.package_file
            if candidate.is_file():
                return candidate
    return None


def require(name: str, path: str | Path | None = None) -> Path:
    """Like :func:`find`, for weights that have to be there.

    Raises:
        MetricsError: they aren't; the message says how to get them.
    """
    found = find(name, path)
    if found is None:
        raise WeightsMissingError(missing(name))
    return found


def missing(*names: str) -> str:
    """One sentence: which weights are missing and what would enable them."""
    rows = [WEIGHTS[name] for name in names]
    files = ", ".join(f"{w.file.rstrip('/')} (for {w.name})" for w in rows)
    enable = "; ".join(dict.fromkeys(w.enable for w in rows))
    return f"needs weights that aren't on this machine: {files}; enable with: {enable}"


def short_hash(path: Path) -> str:
    """First 12 hex digits of the SHA-256 of a file, or of all files of a folder in order."""
    if path.is_dir():
        return tree_sha256(path, sorted(p for p in path.rglob("*") if p.is_file()))[:12]
    return file_sha256(path)[:12]


def fetch(name: str) -> Path:
    """Download weights to where `find` looks, and return the place.

    What the Hugging Face hub has goes into its cache, anything else into `cache_folder`, under its
    own name once it is whole.

    Raises:
        MetricsError: no weights have that name, they come with a package, the download fails, or
            its SHA-256 is not the stated one.
    """
    if (place := find(name)) is not None:
        return place
    weights = WEIGHTS[name]
    if not (weights.hub or weights.url):
        raise MetricsError(f"The weights {name} come with a package; enable with: {weights.enable}")
    try:
        if weights.hub:
            _fetch_hub(weights)
        else:
            _fetch_url(weights, cache_folder() / weights.file)
    except (OSError, zipfile.BadZipFile) as error:
        said = str(error).strip().partition("\n")[0] or type(error).__name__
        raise MetricsError(
            f"The weights {name} can't be downloaded from {weights.url or weights.hub} ({said}); "
            f"try again, or put {weights.file} into {cache_folder()}."
        ) from error
    return require(name)


def _fetch_hub(weights: Weights) -> None:
    from huggingface_hub import hf_hub_download, snapshot_download
    from huggingface_hub.errors import GatedRepoError

    try:
        if weights.hub_file and not weights.file.endswith("/"):
            hf_hub_download(weights.hub, weights.hub_file)
        else:
            snapshot_download(weights.hub, allow_patterns=f"{weights.hub_file}*")
    except GatedRepoError:
        raise MetricsError(
            f"{weights.name}: the licence has to be accepted at https://huggingface.co/"
            f"{weights.hub} first, then 'hf auth login'."
        ) from None


def _fetch_url(weights: Weights, target: Path) -> None:
    folder = weights.file.endswith("/")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as part:
        file = Path(part) / "download"
        with urllib.request.urlopen(weights.url, timeout=60) as source, file.open("wb") as to:
            shutil.copyfileobj(source, to, 1 << 20)
        if not file_sha256(file).startswith(weights.sha256):
            raise MetricsError(
                f"What {weights.url} gives has the SHA-256 {file_sha256(file)}, not the stated "
                f"{weights.sha256}; it was not kept."
            )
        if folder:  # an archive with the files, or with a folder of them
            with zipfile.ZipFile(file) as archive:
                archive.extractall(Path(part) / "all")
            inner = Path(part) / "all" / target.name
            (inner if inner.is_dir() else inner.parent).rename(target)
        else:
            file.rename(target)

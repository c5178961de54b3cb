"""What is asked of a generator: prompts with reference images, read from the layouts in use.

An evaluation set is checked as a whole when it is loaded: every problem is listed at once, with the
file and line where it stands. No path from a data file may be absolute or leave its folder.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from bench import config as cfg
from bench.errors import BenchError
from media.errors import UnreadableImageError, UnreadableTableError, UserError
from media.files import inside, natural_order, whole_folder
from media.images import image_size, read_image
from media.tables import read_json, read_table, read_text

if TYPE_CHECKING:
    from datasets import Dataset

IMAGES = (".png", ".webp", ".jpg", ".jpeg")
WORLD_VERSION = 1  # raised when the same settings would draw another world
_SHOWN = 50  # problems listed before "and N more"


@dataclass(frozen=True)
class Event:
    """One entry of a timeline: what happens from `start` to `end`, in the data set's own unit."""

    start: float
    end: float
    description: str


@dataclass(frozen=True)
class Sample:
    """One thing to generate.

    Attributes:
        id: unique within the set; also how the run folder names it.
        prompt: the text, with the identity's prefix already in front of it.
        references: image files, in the data set's order.
        target: a true video of the same identity and prompt, where one exists.
        identity: whose face it is; samples that share it are one person.
        timeline: what happens when, for sequential-action sets.
        source: file (and line) it was read from, for messages.
    """

    id: str
    prompt: str
    references: tuple[Path, ...] = ()
    target: Path | None = None
    identity: str = ""
    timeline: tuple[Event, ...] = ()
    source: str = field(default="", compare=False)


class EvalSet(Sequence[Sample]):
    """Checked samples, in order.

    Raises:
        BenchError: if there are none, an id stands twice, or a file is missing or unreadable.
    """

    def __init__(self, samples: Iterable[Sample], *, name: str, problems: Iterable[str] = ()):
        self.name = name
        self._samples = tuple(samples)
        found = list(problems)
        first: dict[str, Sample] = {}
        for sample in self._samples:
            found += _check(sample)
            if sample.id in first:
                found.append(
                    f"{sample.source}: the sample id {sample.id!r} stands twice "
                    f"(first at {first[sample.id].source})"
                )
            first.setdefault(sample.id, sample)
        if not found and not self._samples:
            found.append("it has no samples")
        if found:
            more = f"\n  ... and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            listing = "\n  ".join(found[:_SHOWN])
            count = "a problem" if len(found) == 1 else f"{len(found)} problems"
            raise BenchError(f"The evaluation set {name} has {count}:\n  {listing}{more}")

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: Any) -> Any:
        return self._samples[index]

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    @property
    def identities(self) -> tuple[str, ...]:
        """Identities in order of first appearance."""
        return tuple(dict.fromkeys(s.identity for s in self._samples))

    def to_dataset(self) -> Dataset:
        """The set as a Hugging Face `datasets.Dataset`, one row a sample, paths as strings."""
        from datasets import Dataset

        return Dataset.from_list(
            [
                {
                    "id": s.id,
                    "prompt": s.prompt,
                    "references": [str(r) for r in s.references],
                    "target": str(s.target) if s.target else None,
                    "identity": s.identity,
                    "timeline": [
                        {"start": e.start, "end": e.end, "description": e.description}
                        for e in s.timeline
                    ],
                }
                for s in self._samples
            ]
        )


def _check(sample: Sample) -> list[str]:
    problems = []
    where = sample.source or f"sample {sample.id}"
    if not sample.prompt.strip():
        problems.append(f"{where}: the prompt is empty")
    if not re.fullmatch(r"[\w][\w./@+-]*", sample.id) or ".." in sample.id:
        problems.append(
            f"{where}: {sample.id!r} cannot be a sample's id; use letters, digits and ._-/"
        )
    for path in (*sample.references, *([sample.target] if sample.target else [])):
        if not path.is_file():
            problems.append(f"{where}: there is no file {path}")
        elif path.stat().st_size == 0:
            problems.append(f"{where}: the file {path} is empty")
    for path in sample.references:
        if path.is_file() and path.stat().st_size and (why := _unreadable_image(path)):
            problems.append(f"{where}: {path} cannot be read as an image ({why})")
    for event in sample.timeline:
        if not event.start <= event.end:
            problems.append(f"{where}: an event ends ({event.end}) before it starts")
    return problems


def _unreadable_image(path: Path) -> str:
    try:
        width, height = image_size(path)  # from the header only
    except UnreadableImageError as error:
        return str(error)
    return "" if width and height else "it has no pixels"


# Reading -----------------------------------------------------------------------------------------


def load_evalset(config: cfg.EvalSetBase, *, cache: Path) -> EvalSet:
    """The evaluation set a config names.

    Args:
        config: one of the classes of `bench.config`.
        cache: folder for what has to be written first (rendered worlds, a hub set's images).

    Raises:
        BenchError: listing every problem with its file and line.
    """
    problems: list[str] = []
    reader = _READERS[type(config)]
    samples = list(reader(config, problems, cache))
    if config.prefix is not None:
        prefixes, where = _prefixes(config.prefix, problems)
        unknown = sorted(set(prefixes) - {s.identity for s in samples})
        problems += [f"{where}: a prefix for {name!r}, which is no identity" for name in unknown]
        samples = [
            replace(s, prompt=f"{prefixes[s.identity].rstrip()} {s.prompt}")
            if s.identity in prefixes
            else s
            for s in samples
        ]
    if config.limit is not None:
        samples = samples[: config.limit]
    name = getattr(config, "path", None) or getattr(config, "repo", None) or "world"
    return EvalSet(samples, name=str(name), problems=problems)


def _prefixes(prefix: Mapping[str, str] | Path, problems: list[str]) -> tuple[dict[str, str], str]:
    if isinstance(prefix, Mapping):
        return dict(prefix), "evalset.prefix"
    data = _json(prefix, problems)
    if isinstance(data, dict) and all(isinstance(v, str) for v in data.values()):
        return data, str(prefix)
    if data is not None:
        problems.append(f"{prefix}: must be a JSON object identity -> words")
    return {}, str(prefix)


def _inside(folder: Path, name: object, where: str, problems: list[str]) -> Path | None:
    """`folder / name`, unless the name is no path that stays inside the folder."""
    if not isinstance(name, str) or not name.strip():
        problems.append(f"{where}: a path is missing")
        return None
    if PurePosixPath(name).is_absolute() or PureWindowsPath(name).drive or "\\" in name:
        problems.append(f"{where}: the path {name!r} is absolute; it must be relative to {folder}")
        return None
    if ".." in PurePosixPath(name).parts:
        problems.append(f"{where}: the path {name!r} leaves its folder; remove '..'")
        return None
    try:
        return inside(folder, name)  # a link inside the folder must not lead out of it either
    except UserError as error:
        problems.append(f"{where}: {error}")
        return None


def _text(path: Path, problems: list[str]) -> str | None:
    try:
        return read_text(path)
    except UnreadableTableError as error:
        problems.append(str(error))
        return None


def _json(path: Path, problems: list[str]) -> Any:
    try:
        return read_json(path)
    except UnreadableTableError as error:
        problems.append(str(error))
        return None


def _entries(path: Path, problems: list[str]) -> list[tuple[str, dict[str, Any]]]:
    """Objects of a JSON list, each with the place (file:line) where it begins."""
    text = _text(path, problems)
    if text is None:
        return []
    decoder = json.JSONDecoder()
    space = re.compile(r"\s*")

    def skip(position: int) -> int:
        match = space.match(text, position)
        return match.end() if match else position

    def line(position: int) -> int:
        return text.count("\n", 0, position) + 1

    position = skip(0)
    if text[position : position + 1] != "[":
        problems.append(f"{path}:{line(position)}: must be a JSON list of samples")
        return []
    entries: list[tuple[str, dict[str, Any]]] = []
    position = skip(position + 1)
    while text[position : position + 1] != "]":
        try:
            value, end = decoder.raw_decode(text, position)
        except json.JSONDecodeError as error:
            problems.append(f"{path}:{error.lineno}: not valid JSON ({error.msg})")
            return entries
        where = f"{path}:{line(position)}"
        if isinstance(value, dict):
            entries.append((where, value))
        else:
            problems.append(f"{where}: a sample is an object, not a {type(value).__name__}")
            entries.append((where, {}))
        position = skip(end)
        if text[position : position + 1] == ",":
            position = skip(position + 1)
        elif text[position : position + 1] != "]":
            problems.append(f"{path}:{line(position)}: not valid JSON (expected ',' or ']')")
            return entries
    return entries


T = TypeVar("T")


def _get(
    entry: Mapping[str, Any], key: str, kind: type[T], where: str, problems: list[str]
) -> T | None:
    value = entry.get(key)
    if isinstance(value, kind):
        return value
    if entry:  # an entry that is no object at all was already reported
        found = "is missing" if key not in entry else f"must be a {kind.__name__}"
        problems.append(f"{where}: {key!r} {found}")
    return None


def _folder(path: Path, problems: list[str]) -> bool:
    if path.is_dir():
        return True
    problems.append(f"{path}: there is no such folder")
    return False


def _ipvg2025(config: cfg.IPVG2025Set, problems: list[str], cache: Path) -> Iterator[Sample]:
    if not _folder(config.path, problems):
        return
    folders = natural_order(p for p in config.path.iterdir() if p.is_dir())
    for folder in folders:
        images = [folder / f"image{ext}" for ext in IMAGES if (folder / f"image{ext}").is_file()]
        prompts = natural_order(folder.glob("prompt*.txt"))
        if len(images) != 1:
            problems.append(f"{folder}: needs exactly one image.png or image.webp")
            continue
        if not prompts:
            problems.append(f"{folder}: has no prompt1.txt")
        for path in prompts:
            text = _text(path, problems)
            if text is not None:
                yield Sample(
                    id=f"{folder.name}/{path.stem}",
                    prompt=text.strip(),
                    references=(images[0],),
                    identity=folder.name,
                    source=str(path),
                )


def _eval_json(path: Path) -> tuple[Path, Path]:
    """The eval.json of a 2026 folder (or the file itself), and the folder of its images."""
    file = path / "eval.json" if path.is_dir() or path.suffix != ".json" else path
    images = file.parent / "images"
    return file, images if images.is_dir() else file.parent


def _facial(config: cfg.IPVG2026FacialSet, problems: list[str], cache: Path) -> Iterator[Sample]:
    file, images = _eval_json(config.path)
    for number, (where, entry) in enumerate(_entries(file, problems), start=1):
        name = _get(entry, "img", str, where, problems)
        prompt = _get(entry, "prompt", str, where, problems)
        reference = _inside(images, name, where, problems) if name is not None else None
        if prompt is not None and reference is not None:
            yield Sample(str(number), prompt, (reference,), None, reference.stem, (), where)


def _sequential(
    config: cfg.IPVG2026SequentialSet, problems: list[str], cache: Path
) -> Iterator[Sample]:
    file, images = _eval_json(config.path)
    for number, (where, entry) in enumerate(_entries(file, problems), start=1):
        names = _get(entry, "img_paths", list, where, problems) or []
        prompt = _get(entry, "global_prompt", str, where, problems)
        captions = _get(entry, "temporal_captions", list, where, problems) or []
        references = [_inside(images, name, where, problems) for name in names]
        events = []
        for caption in captions:
            if isinstance(caption, list | tuple) and len(caption) == 3:
                caption = dict(zip(("start", "end", "description"), caption))
            try:
                start, end = float(caption["start"]), float(caption["end"])
                events.append(Event(start, end, str(caption["description"])))
            except (TypeError, KeyError, ValueError):
                problems.append(
                    f"{where}: a temporal caption has start, end and description, not {caption!r}"
                )
        if entry and not names:
            problems.append(f"{where}: 'img_paths' is empty")
        if prompt is not None and names and None not in references:
            kept = tuple(r for r in references if r is not None)
            yield Sample(str(number), prompt, kept, None, kept[0].stem, tuple(events), where)


def _consisid(config: cfg.ConsisIDSet, problems: list[str], cache: Path) -> Iterator[Sample]:
    table = _inside(config.path, config.prompts, "evalset.prompts", problems)
    faces = _inside(config.path, config.images, "evalset.images", problems)
    if table is None or faces is None or not _folder(faces, problems):
        return
    rows = list(_rows(table, "csv", problems, ("index", "Class", "Refined_man", "Refined_woman")))
    images = [p for p in faces.iterdir() if p.suffix.lower() in IMAGES]
    for image in natural_order(images):
        column = "Refined_woman" if "woman" in image.name else "Refined_man"
        for where, row in rows:
            # The prompts hold a placeholder for the row's own class word ("man", "woman", ...).
            prompt = row[column].replace("{class_token}", row["Class"])
            yield Sample(
                f"{image.stem}--{row['index']}", prompt, (image,), None, image.stem, (), where
            )


def _opens2v(config: cfg.OpenS2VSet, problems: list[str], cache: Path) -> Iterator[Sample]:
    data = _json(config.path, problems)
    if data is None:
        return
    if not isinstance(data, dict):
        problems.append(f"{config.path}: must be a JSON object sample id -> sample")
        return
    text = config.path.read_text(encoding="utf-8-sig")
    for key, entry in data.items():
        at = text.find(json.dumps(key, ensure_ascii=False))
        where = f"{config.path}:{text.count(chr(10), 0, at) + 1}" if at >= 0 else str(config.path)
        if not isinstance(entry, dict):
            problems.append(f"{where}: a sample is an object, not a {type(entry).__name__}")
            continue
        prompt = _get(entry, "prompt", str, where, problems)
        names = _get(entry, "img_paths", list, where, problems) or []
        references = [_inside(config.path.parent, name, where, problems) for name in names]
        if prompt is not None and names and None not in references:
            kept = tuple(r for r in references if r is not None)
            yield Sample(key, prompt, kept, None, "+".join(r.stem for r in kept), (), where)


def _rows(
    path: Path, kind: Literal["csv", "jsonl"], problems: list[str], needed: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        for row in read_table(path, kind, needed):
            where = f"{path}:{row.line}"
            if row.problem:
                problems.append(f"{where}: {row.problem}")
            else:
                yield where, row.values
    except UnreadableTableError as error:
        problems.append(str(error))


def _table(config: cfg.TableSet, problems: list[str], cache: Path) -> Iterator[Sample]:
    optional = [name for name in (config.id, config.identity, config.target) if name]
    needed = [config.prompt, *config.references, *optional]
    rows = _rows(config.path, config.kind, problems, needed)
    folder = config.path.parent
    for number, (where, row) in enumerate(rows, start=1):
        prompt = _get(row, config.prompt, str, where, problems)
        names: list[Any] = []
        for column in config.references:
            value = row.get(column)
            names += value if isinstance(value, list) else [value]
        references = [_inside(folder, name, where, problems) for name in names]
        target = None
        if config.target and row.get(config.target):
            target = _inside(folder, row[config.target], where, problems)
        if prompt is None or None in references:
            continue
        kept = tuple(r for r in references if r is not None)
        yield Sample(
            id=str(row[config.id]) if config.id and config.id in row else str(number),
            prompt=prompt,
            references=kept,
            target=target,
            identity=str(row[config.identity])
            if config.identity and config.identity in row
            else (kept[0].stem if kept else ""),
            source=where,
        )


def _write_once(folder: Path, fill: Any) -> Path:
    """`folder`, filled by `fill(path)` under another name first, so that a kill leaves no half."""
    if not folder.is_dir():
        with whole_folder(folder, keep=True) as part:
            fill(part)
    return folder


def _digest(*values: object) -> str:
    return hashlib.sha256(json.dumps(values, default=str).encode()).hexdigest()[:16]


def _hub(config: cfg.HubSet, problems: list[str], cache: Path) -> Iterator[Sample]:
    import datasets
    from PIL import Image

    try:
        rows = datasets.load_dataset(
            config.repo, config.name, split=config.split, revision=config.revision
        )
    except Exception as error:  # datasets raises a different class for each way to be unreadable
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        problems.append(f"{config.repo}: cannot be loaded ({first}); name an id or a folder")
        return
    needed = [config.prompt, *config.references, *(c for c in (config.id, config.identity) if c)]
    if missing := [name for name in needed if name not in rows.column_names]:
        problems.append(
            f"{config.repo}: has no column {', '.join(map(repr, missing))}; "
            f"its columns are {', '.join(map(repr, rows.column_names))}"
        )
        return
    digest = _digest("read_image", config.repo, config.name, config.split, rows._fingerprint)
    folder = cache / f"hub-{digest}"

    def fill(part: Path) -> None:
        found = len(problems)
        for index, row in enumerate(rows):
            for i, column in enumerate(config.references):
                try:
                    pixels = read_image(row[column])
                except UnreadableImageError as error:
                    problems.append(f"{config.repo}[{index}]: {column!r}: {error}")
                    continue
                Image.fromarray(pixels).save(part / f"{index}-{i}.png")
        if len(problems) > found:
            raise UnreadableImageError("said above")  # half a set isn't kept

    try:
        _write_once(folder, fill)
    except UnreadableImageError:
        return
    for index, row in enumerate(rows):
        where = f"{config.repo}[{index}]"
        prompt = _get(row, config.prompt, str, where, problems)
        if prompt is None:
            continue
        yield Sample(
            id=str(row[config.id]) if config.id else str(index),
            prompt=prompt,
            references=tuple(folder / f"{index}-{i}.png" for i in range(len(config.references))),
            identity=str(row[config.identity]) if config.identity else str(index),
            source=where,
        )


def _world(config: cfg.WorldSet, problems: list[str], cache: Path) -> Iterator[Sample]:
    from miniature.world import World  # it draws with OpenCV, which need not load for other sets

    world = World(
        split="test",
        size=config.identities * config.prompts,
        seed=config.seed,
        clips_per_identity=config.prompts,
        frames=config.frames,
        resolution=config.image_size,
    )
    values = config.model_dump(exclude={"kind", "prefix", "limit"})
    folder = cache / f"world-{_digest(values, WORLD_VERSION)}"

    def fill(part: Path) -> None:
        from PIL import Image

        from media.writing import write_video

        rows = []
        for index, clip in enumerate(world):
            person, number = divmod(index, config.prompts)
            reference = f"id{person + 1:03d}.png"
            if number == 0:  # one photograph a person, whatever the prompt, as in the challenges
                Image.fromarray(clip.reference).save(part / reference)
            target = f"id{person + 1:03d}-{number + 1}.mp4"
            write_video(part / target, clip.frames, world.fps, crf=0)
            row = {"prompt": clip.caption, "reference": reference, "target": target}
            rows.append({"id": f"id{person + 1:03d}/prompt{number + 1}", **row})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (part / "samples.jsonl").write_text(lines, encoding="utf-8")

    table = _write_once(folder, fill) / "samples.jsonl"
    for where, row in _rows(table, "jsonl", problems):
        yield Sample(
            id=row["id"],
            prompt=row["prompt"],
            references=(folder / row["reference"],),
            target=folder / row["target"],
            identity=row["id"].split("/")[0],
            source=where,
        )


def _these(boxes: Any, _: Any) -> Any:
    """A detector that knows what it is asked to find."""
    return boxes


def _photograph(config: cfg.PhotographSet, problems: list[str], cache: Path) -> Iterator[Sample]:
    folder = cache / f"photograph-{config.people}"

    def fill(part: Path) -> None:
        from insightface.data import get_image
        from PIL import Image

        from metrics.faces.facenet import FacenetFaces
        from stdrc.images import crop_to_face

        pixels = get_image("t1", to_rgb=True)
        boxes = FacenetFaces().detect(pixels[None])[0].boxes.numpy()
        boxes = boxes[boxes[:, 0].argsort()][: config.people]
        for person, box in enumerate(boxes, start=1):
            crop = crop_to_face(Image.fromarray(pixels), partial(_these, box[None]), margin=0.6)
            crop.save(part / f"person{person}.png")

    _write_once(folder, fill)
    for person in range(1, config.people + 1):
        reference = folder / f"person{person}.png"
        if not reference.is_file():
            problems.append(f"photograph: only {person - 1} of {config.people} faces were found")
            return
        for number, prompt in enumerate(config.prompts, start=1):
            yield Sample(
                id=f"person{person}/prompt{number}",
                prompt=prompt,
                references=(reference,),
                identity=f"person{person}",
                source=f"photograph, person {person}",
            )


_READERS: dict[type, Any] = {
    cfg.PhotographSet: _photograph,
    cfg.WorldSet: _world,
    cfg.IPVG2025Set: _ipvg2025,
    cfg.IPVG2026FacialSet: _facial,
    cfg.IPVG2026SequentialSet: _sequential,
    cfg.ConsisIDSet: _consisid,
    cfg.OpenS2VSet: _opens2v,
    cfg.TableSet: _table,
    cfg.HubSet: _hub,
}

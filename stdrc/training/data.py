"""What the trainer reads each step: encoded clips, captions and references, gathered by row number.

Everything is encoded ahead, so a step's batch is a few index selections. `TrainingData` holds
tensors in memory, or `FileRows` that read from a folder of cached encodings as needed. Clips may be
of several shapes; a step's are of one, so that nothing is padded. Every random choice is drawn from
(seed, step), never from a running generator, so that a run resumed at step n sees exactly what it
would have seen.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import load_file
from torch import Tensor

from stdrc.errors import STDRCError
from stdrc.training.config import DropoutConfig, TrainConfig
from stdrc.training.noise import draw_sigmas


class Rows(Protocol):
    """Tensors of which any few that are of one shape can be had as a stack."""

    def __len__(self) -> int: ...
    def gather(self, index: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TensorRows:
    """Rows of a tensor in memory; `source` is where they were read from."""

    tensor: Tensor
    source: FileRows | None = None

    def __len__(self) -> int:
        return len(self.tensor)

    def gather(self, index: Tensor) -> Tensor:
        """Rows [len(index), ...]."""
        return self.tensor.index_select(0, index)


@dataclass(frozen=True)
class ListRows:
    """Tensors of several shapes in memory."""

    tensors: Sequence[Tensor]
    source: FileRows | None = None

    def __len__(self) -> int:
        return len(self.tensors)

    def gather(self, index: Tensor) -> Tensor:
        """Rows [len(index), ...]."""
        return torch.stack([self.tensors[i] for i in index.tolist()])


@dataclass(frozen=True)
class FileRows:
    """One safetensors file per row, read when asked for."""

    files: Sequence[Path]
    key: str

    def __len__(self) -> int:
        return len(self.files)

    def gather(self, index: Tensor) -> Tensor:
        """Rows [len(index), ...]."""
        return torch.stack([load_file(self.files[i])[self.key] for i in index.tolist()])

    def loaded(self, most: float) -> Rows:
        """In memory if they take at most that many GiB, else these."""
        if sum(path.stat().st_size for path in self.files) > most * 2**30:
            return self
        return _rows([load_file(path)[self.key] for path in self.files], self)


@dataclass
class Batch:
    """One micro-batch. `with_reference` counts the leading samples that have one; others none."""

    latents: Tensor  # [B, C, F, H, W] normalised
    noise: Tensor  # [B, C, F, H, W]
    sigmas: Tensor  # [B]
    text: Tensor  # [B, L, D]
    text_mask: Tensor | None  # [B, L], None where every token counts
    reference: Tensor | None  # [with_reference, C, 1, h, w]
    with_reference: int
    face: Tensor | None  # [B, F, H, W] share of a token inside the face box
    clips: Tensor  # [B] row numbers
    boxes: Tensor | None  # [B, frames, 4] pixels, NaN where there is no face
    identities: Tensor | None = None  # [B, E] unit, zero where there is no face
    placement: int = 0  # which of the run's placements

    def to(self, device: torch.device) -> Batch:
        """The same batch on a device."""
        tensors = {k: v for k, v in self.__dict__.items() if isinstance(v, Tensor)}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in tensors.items()})


@dataclass
class TrainingData:
    """Encoded clips with their captions and references.

    Args:
        latents: [N, C, F, H, W] normalised video latents (mean 0, std 1 per channel); of several
            shapes: N of [C, F, H, W]. References, `face` and `boxes` are then lists, too.
        text: [M, L, D] text embeddings of the captions: after the connectors, or before them
            (packed text-encoder states, with `text_mask`) when the connectors are trained.
        null_text: [L, D] the same for the negative prompt, which stands in for a dropped caption.
        text_mask: [M + 1, L], the last row for `null_text`; None where every token counts, which is
            so after connectors with learnable registers.
        captions: for each clip the rows of `text` it may take; none: clip i takes row i.
        references: [R, C, 1, h, w] normalised latents of reference images, plain and augmented.
        choices: for each clip the rows of `references` it may take, drawn evenly; none: clip i
            takes row i. An empty list: that clip trains without a reference.
        face: [N, F, H, W] in 0..1, the share of each token's pixels inside the face box.
        boxes: [N, frames, 4] face boxes in pixels of the clip, NaN where there is none; for the
            identity loss.
        identities: [N, E] unit embeddings of each clip's true face, zero where it has none; for
            `identity.alignment`.
        fps: frames per second.
        description: what goes into the result's metadata under "data".
        buckets: rows of the clips of each shape; none: all are of one.

    Raises:
        STDRCError: lengths or shapes that don't belong together.
    """

    latents: Tensor | Sequence[Tensor] | Rows
    text: Tensor | Rows
    null_text: Tensor
    fps: float
    text_mask: Tensor | None = None
    captions: Sequence[Sequence[int]] | None = None
    references: Tensor | Sequence[Tensor] | Rows | None = None
    choices: Sequence[Sequence[int]] | None = None
    face: Tensor | Sequence[Tensor] | Rows | None = None
    boxes: Tensor | Sequence[Tensor] | Rows | None = None
    identities: Tensor | None = None
    description: dict[str, object] = field(default_factory=dict)
    buckets: Sequence[Sequence[int]] | None = None

    def __post_init__(self) -> None:
        self.latents = _rows(self.latents)
        self.text = _rows(self.text)
        count = len(self.latents)
        if not count:
            raise STDRCError("The training data holds no clip.")
        self._captions = Choices(self.captions, count, len(self.text), "captions", "text")
        self._references = None
        if self.references is not None:
            self.references = _rows(self.references)
            self._references = Choices(
                self.choices, count, len(self.references), "choices", "references"
            )
        if self.text_mask is not None and len(self.text_mask) != len(self.text) + 1:
            raise STDRCError(
                f"text_mask has {len(self.text_mask)} rows; it needs {len(self.text) + 1}, one "
                "per caption and a last one for the negative prompt."
            )
        rows = (("face", self.face), ("boxes", self.boxes), ("identities", self.identities))
        for name, found in rows:
            if found is not None and len(found) != count:
                raise STDRCError(f"{name} has {len(found)} rows for {count} clips.")
        self.face = None if self.face is None else _rows(self.face)
        self.boxes = None if self.boxes is None else _rows(self.boxes)
        if self.buckets is None:
            self.buckets = [range(count)]
        elif sorted(row for bucket in self.buckets for row in bucket) != list(range(count)):
            raise STDRCError(f"buckets must name each of the {count} clips once.")
        elif not all(len(bucket) for bucket in self.buckets):
            raise STDRCError("buckets holds an empty one; leave it out.")

    def __len__(self) -> int:
        return len(self.latents)

    def on_disk(self) -> TrainingData:
        """The same with rows left in their files, small enough to be sent to other processes."""
        return self._with_rows(lambda rows: getattr(rows, "source", None) or rows)

    def loaded(self, most: float) -> TrainingData:
        """The same with each kind of rows in memory that takes at most that many GiB."""
        return self._with_rows(lambda r: r.loaded(most) if isinstance(r, FileRows) else r)

    def _with_rows(self, change: Callable[[Any], Any]) -> TrainingData:
        kinds = ("latents", "text", "references")
        return replace(self, **{kind: change(getattr(self, kind)) for kind in kinds})

    @property
    def shapes(self) -> list[tuple[int, int, int, int]]:
        """(channels, frames, height, width) of the latents of each bucket."""
        found = []
        for bucket in self.buckets or ():
            _, *shape = self.rows("latents").gather(torch.tensor(bucket[:1])).shape
            found.append((shape[0], shape[1], shape[2], shape[3]))
        return found

    def rows(self, kind: str) -> Rows:
        """Of latents, text, references, face or boxes."""
        found: Rows = getattr(self, kind)
        return found


class Choices:
    """For each clip, the rows it may take; flattened so that a batch is drawn without a loop."""

    def __init__(
        self, choices: Sequence[Sequence[int]] | None, clips: int, rows: int, name: str, of: str
    ) -> None:
        if choices is None:
            if rows != clips:
                raise STDRCError(
                    f"{of} has {rows} rows for {clips} clips; say in {name} which clip takes which."
                )
            choices = [[i] for i in range(clips)]
        if len(choices) != clips:
            raise STDRCError(f"{name} has {len(choices)} entries for {clips} clips.")
        self.counts = torch.tensor([len(c) for c in choices])
        self.starts = self.counts.cumsum(0) - self.counts
        self.flat = torch.tensor([row for c in choices for row in c], dtype=torch.long)
        if len(self.flat) and not (int(self.flat.min()) >= 0 and int(self.flat.max()) < rows):
            raise STDRCError(f"{name} names a row that {of} (with {rows} rows) doesn't have.")

    def draw(self, clips: Tensor, generator: torch.Generator) -> Tensor:
        """A row for each clip, -1 where it has none."""
        counts = self.counts[clips]
        pick = (torch.rand(len(clips), generator=generator) * counts).long()
        if not len(self.flat):
            return torch.full_like(clips, -1)
        rows = self.flat[(self.starts[clips] + pick).clamp(max=len(self.flat) - 1)]
        return torch.where(counts > 0, rows, -1)


def seeded(*parts: int | str) -> torch.Generator:
    """A CPU generator whose state depends on `parts` alone, not on what was drawn before."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big") >> 1)


class BatchSource:
    """Micro-batches by number: batch(i) is the same whenever and in whatever order it is asked for.

    Args:
        rank, world: this process and how many there are; each takes its own share of every epoch.
    """

    def __init__(
        self, data: TrainingData, config: TrainConfig, *, rank: int = 0, world: int = 1
    ) -> None:
        self.data, self.config = data, config
        self.rank, self.world = rank, world
        self.size = config.batch_size
        self.buckets = [torch.tensor(bucket) for bucket in data.buckets or ()]
        self.tokens = [math.prod(shape[1:]) for shape in data.shapes]
        self._orders: dict[tuple[int, int], Tensor] = {}
        self._steps: list[tuple[int, int]] = []

    @property
    def remarks(self) -> list[str]:
        """What should be known of this data in this run, a sentence each."""
        step = self.size * self.world * self.config.accumulation
        return [
            f"a step holds {step} clips and there are {len(rows)} of latents "
            f"{'x'.join(map(str, shape[1:]))} (frames x height x width): it holds some twice"
            for rows, shape in zip(self.buckets, self.data.shapes, strict=True)
            if len(rows) < step
        ]

    def _order(self, bucket: int, epoch: int) -> Tensor:
        if (bucket, epoch) not in self._orders:
            kept = [key for key in self._orders if key[0] == bucket]
            if len(kept) > 1:
                self._orders.pop(min(kept))
            of = ("order", epoch) if len(self.buckets) == 1 else ("order", bucket, epoch)
            rows = self.buckets[bucket]
            self._orders[bucket, epoch] = rows[
                torch.randperm(len(rows), generator=seeded(self.config.seed, *of))
            ]
        return self._orders[bucket, epoch]

    def bucket(self, number: int) -> int:
        """Which bucket micro-batch `number` is of; the same for a whole step and on every rank."""
        return self._step(number // self.config.accumulation)[0]

    def _step(self, step: int) -> tuple[int, int]:
        """A step's bucket, and how many steps of that bucket came before it."""
        if step >= len(self._steps):
            counts = [len(rows) for rows in self.buckets]
            self._steps = bucket_steps(counts, 2 * step + 100, self.config.seed)
        return self._steps[step]

    def clips(self, number: int) -> Tensor:
        """Row numbers of micro-batch `number`: a bucket's shuffled epochs, one after another."""
        step, micro = divmod(number, self.config.accumulation)
        bucket, before = self._step(step)
        nth = before * self.config.accumulation + micro
        start = (nth * self.world + self.rank) * self.size
        count = len(self.buckets[bucket])
        return torch.stack(
            [self._order(bucket, i // count)[i % count] for i in range(start, start + self.size)]
        )

    def batch(self, number: int) -> Batch:
        """Micro-batch `number`, on the CPU."""
        data, config = self.data, self.config
        # Numbered over all processes: one that accumulates as many micro-batches draws the same.
        generator = seeded(config.seed, "batch", number * self.world + self.rank, 0)
        # Ranks that share a sharded model must run the same number of forward passes, so with
        # several processes a whole micro-batch keeps or loses its reference, on every rank alike.
        together = seeded(config.seed, "dropout", number) if self.world > 1 else None
        clips = self.clips(number)
        no_text, no_reference = _draw_dropout(len(clips), config.dropout, generator, together)

        rows = torch.full_like(clips, -1)
        if data._references is not None and config.placement is not None:
            rows = data._references.draw(clips, generator)
            rows[no_reference] = -1
        # Samples with a reference first: the two kinds have different lengths and go separately.
        order = torch.argsort((rows < 0).long(), stable=True)
        clips, rows, no_text = clips[order], rows[order], no_text[order]
        with_reference = int((rows >= 0).sum())

        latents = data.rows("latents").gather(clips)
        captions = data._captions.draw(clips, generator)
        text, mask = self._text(captions, no_text)
        reference = None
        if with_reference:
            reference = data.rows("references").gather(rows[:with_reference]).float()
        return Batch(
            latents=latents.float(),
            noise=torch.randn(latents.shape, generator=generator),
            sigmas=draw_sigmas(
                len(clips), self.tokens[self.bucket(number)], config.noise, generator
            ),
            text=text,
            text_mask=mask,
            reference=reference,
            with_reference=with_reference,
            face=None if data.face is None else data.rows("face").gather(clips),
            clips=clips,
            boxes=None if data.boxes is None else data.rows("boxes").gather(clips),
            identities=(
                None if data.identities is None else data.identities.index_select(0, clips)
            ),
            placement=self._placement(number),
        )

    def _placement(self, number: int) -> int:
        """Which placement; one for a whole micro-batch, the same on every rank."""
        count = len(self.config.mixed_placements) + 1
        if count == 1:
            return 0
        generator = seeded(self.config.seed, "placement", number)
        return int(torch.randint(count, (1,), generator=generator))

    def _text(self, captions: Tensor, dropped: Tensor) -> tuple[Tensor, Tensor | None]:
        data = self.data
        text = data.rows("text").gather(captions)
        if bool(dropped.any()):
            null = data.null_text.to(text.dtype)
            text = torch.where(dropped[:, None, None], null[None], text)
        mask = None
        if data.text_mask is not None:
            last = len(data.text_mask) - 1
            mask = data.text_mask[torch.where(dropped, last, captions)]
        return text, mask

    def walk(self, start: int, stop: int, *, ahead: bool = False) -> Iterator[Batch]:
        """Batches start..stop-1 in order; what is read from files is prepared while the batch
        before is in use, and with `ahead`, for a card, also what is in memory."""
        if start >= stop:
            return
        if not ahead and not any(
            isinstance(rows, FileRows)
            for rows in (self.data.latents, self.data.text, self.data.references)
        ):
            # On a CPU a batch in memory costs less than handing it between threads.
            for number in range(start, stop):
                yield self.batch(number)
            return
        with ThreadPoolExecutor(max_workers=1, thread_name_prefix="batches") as pool:
            coming = pool.submit(self.batch, start)
            for number in range(start + 1, stop + 1):
                batch = coming.result()
                if number < stop:
                    coming = pool.submit(self.batch, number)
                yield batch


def _draw_dropout(
    count: int, dropout: DropoutConfig, generator: torch.Generator, together: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    draw = torch.rand(count, generator=generator)
    if together is not None:
        draw = torch.rand(1, generator=together).expand(count)
    no_text = (draw < dropout.text) | (
        (draw >= dropout.text + dropout.reference)
        & (draw < dropout.text + dropout.reference + dropout.both)
    )
    no_reference = (draw >= dropout.text) & (draw < dropout.text + dropout.reference + dropout.both)
    return no_text, no_reference


def bucket_steps(clips: Sequence[int], steps: int, seed: int) -> list[tuple[int, int]]:
    """Which bucket each step is of, and how many steps of that bucket came before.

    The k-th step of a bucket with the share p of the clips falls at a random moment between k / p
    and (k + 1) / p: after n steps each bucket has had n * p of them, give or take one for each
    bucket, in an order that a longer run begins with, too.

    Args:
        clips: how many each bucket has.

    Example:
        >>> bucket_steps([4], 3, seed=0)
        [(0, 0), (0, 1), (0, 2)]
    """
    if len(clips) == 1:
        return [(0, k) for k in range(steps)]
    moments: list[tuple[float, int, int]] = []
    for bucket, count in enumerate(clips):
        share = count / sum(clips)
        for block in range(0, int((steps + len(clips)) * share) + 1, 1024):
            drawn = torch.rand(1024, generator=seeded(seed, "buckets", bucket, block)).tolist()
            moments += [((block + k + u) / share, bucket, block + k) for k, u in enumerate(drawn)]
    return [(bucket, k) for _, bucket, k in sorted(moments)[:steps]]


def _rows(value: Tensor | Sequence[Tensor] | Rows, source: FileRows | None = None) -> Rows:
    if isinstance(value, Tensor):
        return TensorRows(value, source)
    if not isinstance(value, Sequence):
        return value
    if len({row.shape for row in value}) == 1:
        return TensorRows(torch.stack(list(value)), source)
    return ListRows(value, source)

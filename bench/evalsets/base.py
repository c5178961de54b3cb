"""What every kind of evaluation set is: settings that know how to read their samples."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from pydantic import Field

from bench.evalsets.reading import read_json
from bench.evalsets.samples import EvalSet, Sample
from bench.yaml_models import Model


class EvalSetBase(Model):
    """Settings of one kind of evaluation set.

    A kind is a subclass with a field `kind: Literal["..."]` and a method `read`; it is named in
    `bench.evalsets.EVALSETS`, or in the `EVALSETS` of a plug-in.
    """

    prefix: dict[str, str] | Path | None = Field(
        default=None,
        description="Words put before every prompt of an identity: a mapping identity -> words, "
        "or a JSON file that holds one.",
    )
    enhance: bool = Field(
        default=False,
        description="Whether the generator's own language model rewrites every prompt, as LTX-2's "
        "does by default elsewhere; scores go by the set's prompts.",
    )
    limit: int | None = Field(default=None, ge=1, description="Use only the first N samples.")

    @abstractmethod
    def read(self, problems: list[str], cache: Path) -> Iterator[Sample]:
        """The samples in order; what is wrong goes into `problems`, with its file and line.

        Args:
            problems: sentences without a full stop.
            cache: folder for what has to be written first.
        """

    @property
    def title(self) -> str:
        """What messages call the set."""
        path = getattr(self, "path", None)
        return str(path if path is not None else getattr(self, "kind", type(self).__name__))

    def load(self, cache: Path) -> EvalSet:
        """The set, checked.

        Raises:
            BenchError: listing every problem with its file and line.
        """
        problems: list[str] = []
        samples = list(self.read(problems, cache))
        if self.prefix is not None:
            prefixes, where = _prefixes(self.prefix, problems)
            unknown = sorted(set(prefixes) - {s.identity for s in samples})
            problems += [
                f"{where}: a prefix for {name!r}, which is not an identity" for name in unknown
            ]
            samples = [
                replace(s, prompt=f"{prefixes[s.identity].rstrip()} {s.prompt}")
                if s.identity in prefixes
                else s
                for s in samples
            ]
        if self.enhance:
            samples = [replace(s, enhance=True) for s in samples]
        return EvalSet(samples[: self.limit], name=self.title, problems=problems)


def _prefixes(prefix: Mapping[str, str] | Path, problems: list[str]) -> tuple[dict[str, str], str]:
    if isinstance(prefix, Mapping):
        return dict(prefix), "evalset.prefix"
    data = read_json(prefix, problems)
    if isinstance(data, dict) and all(isinstance(v, str) for v in data.values()):
        return data, str(prefix)
    if data is not None:
        problems.append(f"{prefix}: must be a JSON object, identity -> words")
    return {}, str(prefix)

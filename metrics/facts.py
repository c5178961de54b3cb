"""What a metric says of itself, and the register of all of them.

A metric is one class. `register` names it and states what its number means; a pattern such as
``identity.{backend}`` stands for one metric per backend, the word in braces being the argument
that the class is constructed with. `metrics.catalogue` looks them up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, TypeVar

from metrics.errors import MetricsError

FAMILIES = (
    "identity", "text", "temporal", "timeline", "copying", "distribution", "motion", "quality",
)  # fmt: skip
"""What a metric is about; in `--metrics` and `metrics.names` a family stands for its members."""

NEEDS = ("reference", "prompt", "target", "timeline", "people", "times")
"""What a video may come with; "people": references of several, "times": one with a time."""


@dataclass(frozen=True)
class MetricInfo:
    """What a metric's number means and what it takes to compute it.

    Attributes:
        name: what it is called everywhere, ``family.backend[.variant]``.
        backend: whose features it stands on; two backends never share a column.
        label: for table heads.
        formula: in a line.
        source: paper or program that defines it; "this package" where it is our own.
        family: one of :data:`FAMILIES`.
        quirks: what a reader of the number has to know.
        range: lowest and highest possible value; None where there is no bound.
        higher_is_better: direction of the arrow.
        cost: what it costs per video, in words.
        needs: of :data:`NEEDS`, what a video must come with.
        uses: what it takes into account where a video comes with it.
        level: "video", one value per video, or "set", one per group of videos.
        frames: "sampled", the frames that the suite samples; "all"; or the metric's own, in words.
        weights: names in :data:`metrics.weights.WEIGHTS`.
        modules: Python modules it imports beyond the package's dependencies.
        diagnostic: it explains other metrics and is not to count in an order by itself.
        by_default: it is scored where no metrics are named, and where its family is; false for what
            is at home in a narrow world only, such as drawn faces.
        anchors: (worst, best), the values that a leaderboard's weighted score takes for 0 and 1;
            None for the published ones or the range.
        make: constructs the metric.
    """

    name: str
    backend: str
    label: str
    formula: str
    source: str
    family: str = "quality"
    quirks: str = ""
    range: tuple[float | None, float | None] = (0.0, 1.0)
    higher_is_better: bool = True
    cost: str = ""
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    level: str = "video"
    frames: str = "sampled"
    weights: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    diagnostic: bool = False
    by_default: bool = True
    anchors: tuple[float, float] | None = None
    make: Callable[..., Any] | None = field(default=None, compare=False, repr=False)

    @property
    def inputs(self) -> tuple[str, ...]:
        """Everything beside the video that a value depends on, needed or only used."""
        return (*self.needs, *self.uses)


@dataclass(frozen=True)
class Backend:
    """What a metric's backend adds to its facts.

    Attributes:
        name: takes the place of the pattern's word in braces.
        weights, modules: joined to the metric's own.
        cost: the metric's, where the metric itself states none.
        source: the metric's, where the metric itself states none.
        quirks: added to the metric's own.
        by_default: see :class:`MetricInfo`.
        anchors: name of a metric -> its anchors.
    """

    name: str
    weights: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    cost: str = ""
    source: str = ""
    quirks: str = ""
    by_default: bool = True
    anchors: Mapping[str, tuple[float, float]] = field(default_factory=dict, hash=False)


Backends = Iterable[Backend] | Callable[[], Iterable[Backend]]
_Class = TypeVar("_Class", bound=type)


@dataclass(frozen=True)
class _Statement:
    """What `register` was told of a metric: its class, facts of :class:`MetricInfo`, arguments."""

    cls: type
    name: str
    word: str | None
    facts: Mapping[str, Any]
    arguments: Mapping[str, Any]
    backends: Backends
    quirks: Mapping[str, str]

    def rows(self) -> Iterator[MetricInfo]:
        """The metric; of a pattern, one per backend."""
        if self.word is None:
            backend = self.name.rsplit(".", 1)[-1]
            yield MetricInfo(
                **{"name": self.name, "backend": backend, "make": self._make({}), **self.facts}
            )
            return
        for each in self.backends() if callable(self.backends) else self.backends:
            yield self._of(each, self.word)

    def _of(self, backend: Backend, word: str) -> MetricInfo:
        facts, name = self.facts, self.name.format(**{word: backend.name})
        quirks = (facts.get("quirks"), self.quirks.get(backend.name), backend.quirks)
        joined = {
            "name": name,
            "backend": backend.name,
            "label": f"{facts['label']} ({backend.name})",
            "source": facts["source"] or backend.source,
            "quirks": "; ".join(quirk for quirk in quirks if quirk),
            "weights": (*backend.weights, *facts.get("weights", ())),
            "modules": (*backend.modules, *facts.get("modules", ())),
            "cost": facts.get("cost") or backend.cost,
            "by_default": backend.by_default,
            "anchors": facts.get("anchors") or backend.anchors.get(name),
            "make": self._make({word: backend.name}),
        }
        return MetricInfo(**{**facts, **joined})

    def _make(self, chosen: Mapping[str, str]) -> Callable[..., Any]:
        return lambda **more: self.cls(**chosen, **self.arguments, **more)


_REGISTERED: dict[str, _Statement] = {}


def register(
    name: str,
    *,
    label: str,
    formula: str,
    source: str = "",
    family: str,
    backends: Backends = (),
    backend_quirks: Mapping[str, str] | None = None,
    **facts: Any,
) -> Callable[[_Class], _Class]:
    """Name a metric and state its facts; decorates the class that computes it.

    Args:
        name: ``family.rest``, or a pattern with one word in braces that ``backends`` fill and that
            the class takes as an argument.
        label, formula, source, family: see :class:`MetricInfo`.
        backends: of a pattern; a function is called again whenever metrics are looked up.
        backend_quirks: what is to be known of single backends in this metric alone.
        facts: any other field of :class:`MetricInfo`; what is none of them is an argument for the
            class, as in ``register("text.{model}_score_video", ..., of="video")``.

    Raises:
        MetricsError: an unknown family or need, a pattern without backends, or a name that
            another class has.

    Example:
        >>> import numpy as np
        >>> from metrics import VideoMetric, metric_info
        >>> @register("pixels.mean", label="Brightness", formula="mean of f / 255", source="me",
        ...           family="quality")
        ... class Brightness(VideoMetric):
        ...     features = ("pixels",)
        ...     def measure(self, video):
        ...         return float(np.mean(video["pixels"])) / 255
        >>> metric_info("pixels.mean").label
        'Brightness'
        >>> metric = Brightness()
        >>> metric.update(np.full((2, 4, 4, 3), 51, np.uint8))
        >>> float(metric.compute())
        0.2
        >>> unregister("pixels.mean")
    """
    words = [word for _, word, _, _ in Formatter().parse(name) if word is not None]
    if family not in FAMILIES:
        raise MetricsError(
            f"The metric {name!r} is of the family {family!r}; choose one of {', '.join(FAMILIES)}."
        )
    if len(words) > 1 or bool(words) == (backends == ()):
        raise MetricsError(
            f"The metric {name!r} has {len(words)} words in braces; a pattern has exactly one and "
            "comes with backends, a plain name has none."
        )
    own = {key: facts.pop(key) for key in list(facts) if key in MetricInfo.__dataclass_fields__}
    for need in (*own.get("needs", ()), *own.get("uses", ())):
        if need not in NEEDS:
            raise MetricsError(
                f"The metric {name!r} needs {need!r}; choose from {', '.join(NEEDS)}."
            )
    said = {"label": label, "formula": formula, "source": source, "family": family} | own

    def decorate(cls: _Class) -> _Class:
        other = _REGISTERED[name].cls if name in _REGISTERED else cls
        if (other.__module__, other.__qualname__) != (cls.__module__, cls.__qualname__):
            raise MetricsError(
                f"{cls.__module__}:{cls.__qualname__} can't be called {name!r}; that is "
                f"{other.__module__}:{other.__qualname__}. Choose another name."
            )
        stated = {"level": getattr(cls, "level", "video")} | said
        word = words[0] if words else None
        quirks = backend_quirks or {}
        _REGISTERED[name] = _Statement(cls, name, word, stated, facts, backends, quirks)
        if "higher_is_better" not in vars(cls):
            cls.higher_is_better = own.get("higher_is_better", True)  # type: ignore[attr-defined]
        return cls

    return decorate


def unregister(name: str) -> None:
    """Forget a metric that was registered under exactly this name or pattern."""
    _REGISTERED.pop(name, None)


def registered(cls: type) -> bool:
    """Whether a class is registered under any name."""
    return any(statement.cls is cls for statement in _REGISTERED.values())


def expand() -> dict[str, MetricInfo]:
    """Every registered metric, patterns written out, by name; in the order of modules' names, this
    package's first, whatever order they were imported in.

    Raises:
        MetricsError: two patterns give one name.
    """
    found: dict[str, MetricInfo] = {}

    def place(statement: _Statement) -> tuple[bool, str]:
        module = statement.cls.__module__
        return not module.startswith("metrics."), module

    for statement in sorted(_REGISTERED.values(), key=place):
        for info in statement.rows():
            if info.name in found:
                raise MetricsError(f"Two metrics are called {info.name!r}; rename one.")
            found[info.name] = info
    return found

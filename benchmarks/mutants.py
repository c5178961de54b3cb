"""Whether the tests notice: small faults planted one at a time in the code that numbers come from.

    make mutants                                      # everything; resumes where it was stopped
    make mutants ONLY="guidance ranking" SAMPLE=300   # some modules, more mutants of each
    make mutants ONLY=planted                         # the faults of benchmarks/planted.py alone

The mutations are mutmut's, over a whole module. mutmut's own runner leaves out what stands outside
of functions and what is decorated (ranges, constants, properties); cosmic-ray starts a process per
mutant, which here imports PyTorch for ten seconds before a test of 0.1 s. So a mutant runs in a
fork of a process that has imported the third-party packages and nothing of the project; the
module's source is exchanged on import, and no file is changed.

Left out: annotations, imports, docstrings, what is raised, and strings with a space in them (words
for people). Of a module with more than SAMPLE mutants those with the lowest hash are taken, which
is a fixed random choice. The tests that execute the changed lines run first, then the module's
others, until one fails. A mutant that its tests killed isn't run again; one that survived is, when
its tests have changed.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import importlib
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, SourceFileLoader
from itertools import accumulate, islice
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import libcst as cst
import pytest
from libcst.metadata import MetadataWrapper, PositionProvider
from mutmut.mutation.mutators import mutation_operators

from benchmarks.planted import EQUIVALENT, PLANTED

ROOT = Path(__file__).resolve().parents[1]
OURS = ("media", "stdrc", "metrics", "leaderboards", "bench", "miniature", "tests", "benchmarks")
VOTES = "tests/leaderboards/votes/test_"
STORE = (
    "tests/bench/test_store.py",
    "tests/bench/test_store_rows.py",
    "tests/bench/test_kept.py",
    "tests/leaderboards/test_runfolder.py",
)
# Module -> the test files that answer for it.
TARGETS: dict[str, tuple[str, ...]] = {
    "stdrc/positions.py": ("tests/stdrc/test_positions.py",),
    "stdrc/guidance.py": ("tests/stdrc/test_guidance.py",),
    "stdrc/augmentation.py": ("tests/stdrc/test_augmentation.py",),
    "metrics/frechet.py": ("tests/metrics/test_frechet.py",),
    "leaderboards/statistics.py": ("tests/leaderboards/test_statistics.py",),
    "leaderboards/ranking.py": ("tests/leaderboards/test_ranking.py",),
    "leaderboards/votes/agreement.py": (f"{VOTES}agreement.py",),
    "leaderboards/votes/ballots.py": (f"{VOTES}ballots.py",),
    "leaderboards/votes/pairs.py": (f"{VOTES}pairs.py",),
    "leaderboards/votes/plan.py": (f"{VOTES}plan.py",),
    "leaderboards/votes/strengths.py": (f"{VOTES}strengths.py",),
    "bench/keys.py": ("tests/bench/test_keys.py", "tests/bench/test_generator.py"),
    "bench/sweep.py": ("tests/bench/test_sweep.py",),
    "bench/store.py": STORE,
}
# Left alone, with all that is below them.
NOT_MUTATED = (cst.Annotation, cst.Import, cst.ImportFrom, cst.Raise, cst.Decorator)
RESULTS = ROOT / "runs" / "mutants"


@dataclass(frozen=True)
class Mutant:
    """One change of a module: its source afterwards, the changed statement's lines, the change."""

    file: str
    source: str
    lines: range
    before: str
    after: str

    @property
    def key(self) -> str:
        return sha256(self.file, self.source)[:16]


def sha256(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode()).hexdigest()


def places(
    node: cst.CSTNode, at: Mapping[cst.CSTNode, Any], lines: range | None = None
) -> Iterator[tuple[cst.CSTNode, cst.CSTNode, range]]:
    """(node, what mutmut makes of it, lines of its statement) below a node of a module."""
    if isinstance(node, NOT_MUTATED) or is_wording(node):
        return
    if lines is None and isinstance(node, cst.SimpleStatementLine | cst.BaseExpression):
        lines = range(at[node].start.line, at[node].end.line + 1)
    for kind, operator in mutation_operators:
        if isinstance(node, kind):
            news = list(operator(node))
            # Of a string's three changes the first: another case is no other fault.
            for new in news[:1] if isinstance(node, cst.SimpleString) else news:
                yield node, new, lines or range(0)
    for child in node.children:
        yield from places(child, at, lines)


def is_wording(node: cst.CSTNode) -> bool:
    """Words for people, and the list of public names."""
    if isinstance(node, cst.SimpleString):
        return " " in node.value
    if isinstance(node, cst.FormattedString):
        return any(isinstance(p, cst.FormattedStringText) and " " in p.value for p in node.parts)
    return isinstance(node, cst.Assign) and "__all__" in cst.Module([]).code_for_node(
        node.targets[0]
    )


def mutants_of(file: str, most: int) -> tuple[list[Mutant], int]:
    """The mutants of a module to run, and how many it has."""
    before = (ROOT / file).read_text()
    wrapper = MetadataWrapper(cst.parse_module(before), unsafe_skip_copy=True)
    at = wrapper.resolve(PositionProvider)
    starts = [0, *accumulate(len(line) for line in before.splitlines(keepends=True))]
    ranked: dict[str, tuple[str, Mutant]] = {}
    times: Counter[tuple[str, str]] = Counter()
    for old, new, lines in places(wrapper.module, at):
        where = at[old]
        i, j = (starts[p.line - 1] + p.column for p in (where.start, where.end))
        # With parentheses of its own where the node has them: twice is as good as once.
        source = before[:i] + wrapper.module.code_for_node(new) + before[j:]
        change = changed(before, source)
        times[change] += 1
        # By the change, not by the key: an edit elsewhere must not draw another sample.
        rank = sha256(*change, str(times[change]))
        ranked.setdefault(source, (rank, Mutant(file, source, lines, *change)))
    ranked.pop(before, None)
    chosen = (mutant for _, mutant in sorted(ranked.values(), key=lambda pair: pair[0]))
    return list(islice(filter(compiles, chosen), most)), len(ranked)


def compiles(mutant: Mutant) -> bool:
    try:
        compile(mutant.source, mutant.file, "exec")
    except SyntaxError:
        return False
    return True


def changed(before: str, after: str) -> tuple[str, str]:
    """The lines that differ, without their indentation."""
    old, new = ([line.strip() for line in text.splitlines()] for text in (before, after))
    while old and new and old[0] == new[0]:
        del old[0], new[0]
    while old and new and old[-1] == new[-1]:
        del old[-1], new[-1]
    return " ".join(old), " ".join(new)


class Exchanged:
    """Imports one file of the project with another source."""

    def __init__(self, file: str, source: str) -> None:
        self.name = file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        self.path, self.source = str(ROOT / file), source

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        outer = self

        class Loader(SourceFileLoader):
            def get_code(self, fullname: str) -> CodeType:
                return compile(outer.source, outer.path, "exec")  # type: ignore[no-any-return]

        return importlib.util.spec_from_file_location(
            name, self.path, loader=Loader(name, self.path)
        )


class Quick:
    """For pytest: the likeliest tests first, and no search for a failure's smallest example."""

    def __init__(self, rank: Mapping[str, float]) -> None:
        self.rank = rank

    def pytest_collection(self) -> None:
        from hypothesis import Phase, settings

        phases = (Phase.explicit, Phase.generate)
        settings.register_profile("mutants", settings.get_profile("stdrc"), phases=phases)
        settings.load_profile("mutants")

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items.sort(key=lambda item: self.rank.get(item.nodeid, 0.0))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            os._exit(1)  # one is enough, and nobody reads the report


class Trace(Quick):
    """For pytest: which lines of a file each test executes, and its seconds."""

    def __init__(self, file: str) -> None:
        super().__init__({})
        self.file = str(ROOT / file)
        self.lines: dict[str, set[int]] = {"": set()}  # "": on import and in collecting
        self.seconds: dict[str, float] = {}
        self._now = self.lines[""]

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """To be read where a test fails by itself."""

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Any:
        return self._line if frame.f_code.co_filename == self.file else None

    def _line(self, frame: FrameType, event: str, argument: Any) -> Any:
        self._now.add(frame.f_lineno)
        return self._line

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._now = self.lines[item.nodeid] = set()
        began = time.perf_counter()
        sys.settrace(self)
        result = yield
        self.seconds[item.nodeid] = time.perf_counter() - began
        self._now = self.lines[""]
        return result


def pytest_main(tests: tuple[str, ...], *plugins: Any) -> int:
    options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow and not gpu"]
    return int(pytest.main([*tests, *options], plugins=list(plugins)))


def forked(work: Callable[[], int], log: Path | None = None) -> int:
    """Process id of a child, in a session of its own, that ends with what the work returns."""
    if pid := os.fork():
        return pid
    os.setsid()
    out = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    code = 70
    try:
        code = work()
    finally:
        os._exit(code)


def outcomes(
    jobs: list[tuple[Any, Callable[[], int]]], at_once: int, limit: float
) -> Iterator[tuple[Any, int | None]]:
    """(job, exit status or None where it took longer than the limit in seconds), as they end."""
    left, running = list(reversed(jobs)), {}
    try:
        while left or running:
            while left and len(running) < at_once:
                job, work = left.pop()
                running[forked(work)] = (job, time.monotonic() + limit)
            time.sleep(0.02)
            for pid, (job, deadline) in list(running.items()):
                ended, status = os.waitpid(pid, os.WNOHANG)
                late = not ended and time.monotonic() > deadline
                if late:
                    os.killpg(pid, signal.SIGKILL)
                    os.waitpid(pid, 0)
                if ended or late:
                    del running[pid]
                    yield job, None if late else os.waitstatus_to_exitcode(status)
    finally:
        for pid in running:
            os.killpg(pid, signal.SIGKILL)


def baseline(file: str, tests: tuple[str, ...]) -> tuple[dict[str, set[int]], dict[str, float]]:
    """(test -> lines of the file that it executes, test -> seconds); warms this process up.

    The third-party modules that the tests import are imported here, so that forks have them.
    """
    kept, log = (RESULTS / f"baseline.{file.replace('/', '.')}{end}" for end in (".json", ".log"))

    def work() -> int:
        trace = Trace(file)
        threading.settrace(trace)
        sys.settrace(trace)
        code = pytest_main(tests, trace)
        sys.settrace(None)
        lines = {test: sorted(found) for test, found in trace.lines.items()}
        theirs = [name for name in sys.modules if name.split(".")[0] not in (*OURS, "__main__")]
        kept.write_text(json.dumps([lines, trace.seconds, theirs]))
        return code

    if os.waitpid(forked(work, log), 0)[1]:
        sys.exit(f"The tests of {file} fail without a fault; see {log.relative_to(ROOT)}.")
    lines, seconds, theirs = json.loads(kept.read_text())
    for name in theirs:
        # What cannot be imported by itself is imported in each fork, as before.
        with suppress(Exception):
            importlib.import_module(name)
    gc.freeze()  # or each fork's collections walk through all of it
    if loaded := [n for n in sys.modules if n.split(".")[0] in OURS[:-1]]:
        sys.exit(f"{loaded[0]} is loaded before a fork; a fault in it would not be seen.")
    return {test: set(found) for test, found in lines.items()}, seconds


def judge(file: str, most: int, at_once: int) -> tuple[int, dict[str, list[Mutant]]]:
    """(how many mutants the module has, those that were run by what became of them)."""
    tests = TARGETS[file]
    state = sha256(*((ROOT / test).read_text() for test in tests))
    ledger = RESULTS / f"{file.replace('/', '.')}l"
    known: dict[str, tuple[str, str]] = {}
    if ledger.is_file():
        known = {
            key: (how, of) for key, how, of in map(json.loads, ledger.read_text().splitlines())
        }
    mutants, total = mutants_of(file, most)
    found: dict[str, list[Mutant]] = {how: [] for how in ("killed", "timeout", "survived", "equal")}
    todo = []
    for mutant in mutants:
        how, of = known.get(mutant.key, ("", ""))
        if (file, mutant.before, mutant.after) in EQUIVALENT:
            found["equal"].append(mutant)
        elif how in ("killed", "timeout") or of == state:
            found[how].append(mutant)
        else:
            todo.append(mutant)
    if not todo:
        return total, found
    lines, seconds = baseline(file, tests)
    jobs: list[tuple[Mutant, Callable[[], int]]] = []
    for mutant in todo:
        hit = {test for test, by in lines.items() if not by.isdisjoint(mutant.lines)}
        rank = {
            t: s + 1e6 * bool(hit and "" not in hit and t not in hit) for t, s in seconds.items()
        }

        def work(mutant: Mutant = mutant, rank: dict[str, float] = rank) -> int:
            sys.meta_path.insert(0, Exchanged(file, mutant.source))  # type: ignore[arg-type]
            return pytest_main(tests, Quick(rank))

        jobs.append((mutant, work))
    with ledger.open("a") as out:
        for mutant, status in outcomes(jobs, at_once, 20 + 4 * sum(seconds.values())):
            how = "timeout" if status is None else "killed" if status else "survived"
            found[how].append(mutant)
            print(json.dumps([mutant.key, how, state]), file=out, flush=True)
    return total, found


def check_planted(at_once: int) -> list[tuple[str, str, bool]]:
    """(fault, its test, whether that test fails with it), all of which pass without it."""
    faults = []
    for what, file, old, new, test in PLANTED:
        source = (ROOT / file).read_text()
        if source.count(old) != 1:
            sys.exit(f"{file} does not hold {old!r} once; correct benchmarks/planted.py.")
        faults.append(((what, test), file, source.replace(old, new), test))
    baseline("planted.py", tuple(dict.fromkeys(test for *_, test in faults)))

    def job(file: str, source: str, test: str) -> Callable[[], int]:
        def work() -> int:
            sys.meta_path.insert(0, Exchanged(file, source))  # type: ignore[arg-type]
            return pytest_main((test,), Quick({}))

        return work

    jobs = [(fault, job(*rest)) for fault, *rest in faults]
    return sorted((*fault, status == 1) for fault, status in outcomes(jobs, at_once, 300))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("only", nargs="*", help="parts of modules' paths, or 'planted'")
    parser.add_argument("--sample", type=int, default=60, help="most mutants of a module")
    parser.add_argument("--jobs", type=int, default=2, help="processes at once")
    args = parser.parse_args()
    os.chdir(ROOT)
    RESULTS.mkdir(parents=True, exist_ok=True)
    chosen = [t for t in TARGETS if not args.only or any(part in t for part in args.only)]
    caught = ran = missed = 0
    if chosen:
        print(
            f"{'module':34} {'killed':>7} {'timeout':>8} {'survived':>9} {'share':>7}   of",
            flush=True,
        )
    with (RESULTS / "survivors.txt").open("w") as out:
        for file in chosen:
            total, found = judge(file, args.sample, args.jobs)
            killed, timeout, survived = (len(found[h]) for h in ("killed", "timeout", "survived"))
            n = killed + timeout + survived
            share = (killed + timeout) / max(n, 1)
            print(
                f"{file:34} {killed:7} {timeout:8} {survived:9} {share:7.1%}"
                f"   {total} ({len(found['equal'])} of the sample equivalent)",
                flush=True,
            )
            caught, ran = caught + killed + timeout, ran + n
            for mutant in found["survived"]:
                print(
                    f"{file}:{mutant.lines.start}\n- {mutant.before}\n+ {mutant.after}",
                    file=out,
                    flush=True,
                )
    if not args.only or "planted" in args.only:
        for what, test, seen in check_planted(args.jobs):
            missed += not seen
            print(f"{'caught' if seen else 'MISSED'}  {what}: {test}")
    if ran:
        print(f"{caught} of {ran} mutants caught: {caught / ran:.1%}")
    return bool(missed)


if __name__ == "__main__":
    sys.exit(main())

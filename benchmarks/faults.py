"""What a run survives: each fault is done to it, and its table compared with an undisturbed one's.

    python benchmarks/faults.py                    # all but the slow ones, a few minutes
    python benchmarks/faults.py kills hang         # some
    python benchmarks/faults.py --ray              # lost and unplaced workers of a cluster too
    python benchmarks/faults.py --miniature        # kills of the miniature's quick run too

A line per fault: how often it was survived, of how many. Survived means: the same command again (or
the command that the message names) ends with the undisturbed run's table, equal to the byte; or,
where nothing can be right, one sentence that says what is wrong.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console

from bench.config import EngineConfig
from bench.errors import BenchError
from bench.merging import merge, merge_shards
from bench.runner import Runner
from bench.status import read_status
from bench.store import Store
from bench.verify import verify
from tests.bench.fakes import RETURNED, DrawnGenerator, PixelJudge, make_config, no_report, table_of

FORK, SPAWN = map(multiprocessing.get_context, ("fork", "spawn"))
DELAY = 0.3  # seconds of a video that is drawn slowly
PROMPTS = ["a red square", "a blue square"]
Count = tuple[int, int]  # survived, tried


def runner(config: Any, **changes: Any) -> Runner:
    parts = {"judge": PixelJudge(), "report": no_report, "console": Console(file=io.StringIO())}
    return Runner(config, **{**parts, **changes})


def here(config: Any, **changes: Any) -> Any:
    """A run in this process."""
    return runner(config, generator=config.generator.make()).run(**changes)


def calm(
    folder: Path, prompts: list[str] = PROMPTS, args: Any = MappingProxyType({}), **sections: Any
) -> bytes:
    """The undisturbed run's table; `args` of a generator are part of its videos' keys."""
    config = make_config(folder / "calm", prompts=prompts, **sections)
    generator = DrawnGenerator()
    generator.made_with = args
    runner(config, generator=generator).run()
    return table_of(config.folder)


def delayed(folder: Path, delay: float = DELAY, **sections: Any) -> Any:
    """A config whose videos take their time, in workers of their own."""
    generator = {"kind": "custom", "factory": "tests.bench.fakes:DrawnGenerator"}
    return make_config(folder, generator={**generator, "args": {"delay": delay}}, **sections)


def forked(work: Callable[[], Any], killed_after: float | None = None) -> int:
    """Exit code of a process that does `work`, killed after so many seconds if not done."""
    process = FORK.Process(target=work)
    process.start()
    process.join(killed_after)
    if process.is_alive() and killed_after is not None:
        os.kill(process.pid or 0, signal.SIGKILL)
        process.join()
    return process.exitcode or 0


# Faults ------------------------------------------------------------------------------------------


def first_50_ms(folder: Path) -> Count:
    """SIGKILL in the first 50 ms of a folder's life."""
    expected, moments, good = calm(folder), random.Random(0), 0
    for n in range(60):
        config = make_config(folder / str(n))
        forked(lambda config=config: here(config), moments.uniform(0, 0.05))
        runner(config, generator=DrawnGenerator()).describe_plan(
            Store(config.folder) if (config.folder / "store.sqlite").is_file() else None
        )
        here(config)
        good += table_of(config.folder) == expected
    return good, 60


def kills(folder: Path) -> Count:
    """SIGKILL at random moments of a run, 20 of them, until it is done."""
    prompts = [f"square {n}" for n in range(12)]
    expected, moments = calm(folder, prompts), random.Random(1)
    config, survived = make_config(folder / "rough", prompts=prompts), 0
    slow = lambda: runner(config, generator=DrawnGenerator(delay=0.02)).run()  # noqa: E731
    for _ in range(20):
        survived += forked(slow, moments.uniform(0.02, 0.4)) in (0, -signal.SIGKILL)
    here(config)
    return (survived, 20) if table_of(config.folder) == expected else (0, 20)


def moody(folder: Path, word: str, **engine: Any) -> Count:
    """Half of the videos do something bad to their worker, once."""
    prompts = ["a red square", word]
    args = {"recovers": str(folder / "remembered")}
    expected = calm(folder, prompts, args, sweep={})
    generator = {"kind": "custom", "factory": "tests.bench.fakes:MoodyGenerator", "args": args}
    config = make_config(
        folder / "rough", prompts=prompts, generator=generator, engine=engine, sweep={}
    )
    summary = runner(config).run()
    return (2 - summary.failed, 2) if table_of(config.folder) == expected else (0, 2)


def hang(folder: Path) -> Count:
    """A model that hangs."""
    return moody(folder, "please hang", timeout_s=1)


def crash(folder: Path) -> Count:
    """A model that takes its process down."""
    return moody(folder, "please die")


def gpu_fault(folder: Path) -> Count:
    """A CUDA error after which nothing works in the process."""
    return moody(folder, "a fault")


def memory(folder: Path) -> Count:
    """A batch that does not fit into memory."""

    class Small(DrawnGenerator):
        def generate(self, samples: Any, settings: Any) -> Any:
            if len(samples) > 1:
                raise MemoryError("CUDA out of memory")
            return super().generate(samples, settings)

    config = make_config(folder / "rough", engine={"batch_size": 4})
    runner(config, generator=Small()).run()
    return int(table_of(config.folder) == calm(folder)), 1


def wrong_values(folder: Path) -> Count:
    """What is not a video, in place of one: each fails in words, alone."""
    generator = {"kind": "custom", "factory": "tests.bench.fakes:MoodyGenerator"}
    config = make_config(folder, prompts=["a red square", *RETURNED], generator=generator, sweep={})
    summary = here(config)
    with Store(config.folder) as store:
        named = {sample for _, sample, reason in store.failures(100) if len(reason) > 20}
    good = len([name for name in named if name.startswith("p0")])
    return (good, len(RETURNED)) if summary.generated == 2 else (0, len(RETURNED))


def fatal(folder: Path) -> Count:
    """A generator that no worker can make stops the run with its text."""
    args = {"pid": os.getpid()}
    factory = "tests.bench.fakes:UnbuiltGenerator"
    generator = {"kind": "custom", "factory": factory, "args": args}
    try:
        runner(make_config(folder, generator=generator)).run()
    except BenchError as error:
        return int("no licence for this machine" in str(error)), 1
    return 0, 1


def lost_worker(folder: Path) -> Count:
    """SIGKILL of the generating process, as by a system whose memory is full."""
    expected, good = calm(folder, args={"delay": DELAY}), 0
    for n in range(5):
        config = delayed(folder / str(n))
        run = runner(config)

        def shoot(run: Runner = run) -> None:
            engine: Any = run.engine
            while not engine.working():
                time.sleep(0.01)
            time.sleep(0.3)
            engine.workers[0].handle[0].kill()

        thread = threading.Thread(target=shoot)
        thread.start()
        run.run()
        thread.join()
        good += table_of(config.folder) == expected
    return good, 5


def full_disk(folder: Path) -> Count:
    """A disk that is full, at several sizes, and then is not."""
    expected, good, tried = calm(folder), 0, 0
    for pages in (40, 60, 90):
        small = folder / f"disk{pages}"
        small.mkdir()
        size = f"size={pages * 4}k"
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", str(small)], capture_output=True
        )
        if mounted.returncode:
            continue  # not root
        tried += 1
        try:
            config = make_config(small)
            try:
                here(config)
                said = True  # it was large enough
            except BenchError as error:
                said = "is full; free some space" in str(error)
            except OSError:
                said = False
            subprocess.run(["mount", "-o", "remount,size=64m", str(small)], check=True)
            here(config)
            good += said and table_of(config.folder) == expected
        finally:
            subprocess.run(["umount", str(small)], check=True)
    return good, tried


def quota(folder: Path) -> Count:
    """A limit to the size of a file, as of a quota."""
    import resource

    expected = calm(folder)
    config = make_config(folder / "rough")

    def limited() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (70_000, 70_000))
        try:
            here(config)
        except BenchError as error:
            os._exit(7 if "give the same command again" in str(error) else 8)

    code = forked(limited)
    here(config)
    return int(code == 7 and table_of(config.folder) == expected), 1


def read_only(folder: Path) -> Count:
    """Status of a folder that the reader may not write to."""
    config = make_config(folder)
    here(config)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def as_nobody() -> None:
        if os.getuid() == 0:
            os.setuid(65534)
        os._exit(0 if read_status(config.folder)["videos"]["done"] == 16 else 1)

    Path(tempfile.gettempdir()).stat()
    folder.parent.chmod(0o755)
    code = forked(as_nobody)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return int(code == 0), 1


def flipped_bits(folder: Path) -> Count:
    """A bit of a video flipped, its time kept: verify finds it, merge does not take it."""
    expected, chance, good = calm(folder), random.Random(2), 0
    config = make_config(folder / "rough")
    here(config)
    for _ in range(20):
        path = chance.choice(sorted(config.folder.glob("videos/??/*.mp4")))
        before, data = path.stat(), bytearray(path.read_bytes())
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with tempfile.TemporaryDirectory() as other, Store(Path(other), write=True) as store:
            came, _ = merge(store, config.folder)
        found = verify(config.folder, repair=True).damaged
        here(config)
        good += list(found) == [path.stem] and came == 15 and table_of(config.folder) == expected
    return good, 20


def two_writers(folder: Path) -> Count:
    """Two processes on one folder: one works, the other says who does."""
    expected, good = calm(folder), 0
    for n in range(10):
        config = make_config(folder / str(n))

        def one(config: Any = config) -> None:
            try:
                runner(config, generator=DrawnGenerator(delay=0.15)).run()
            except BenchError as error:
                os._exit(9 if "in use by process" in str(error) else 1)

        both = [FORK.Process(target=one) for _ in range(2)]
        for process in both:
            process.start()
        for process in both:
            process.join()
        codes = sorted(process.exitcode or 0 for process in both)
        good += codes == [0, 9] and table_of(config.folder) == expected
    return good, 10


def polling(folder: Path) -> Count:
    """Openings of a folder while `status` is asked of it without a pause."""
    config = make_config(folder)
    here(config)

    def poll() -> None:
        while True:
            read_status(config.folder)

    pollers = [FORK.Process(target=poll) for _ in range(2)]
    for process in pollers:
        process.start()
    good = 0
    try:
        for _ in range(300):
            try:
                Store(config.folder, write=True).close()
                good += 1
            except BenchError:
                continue
    finally:
        for process in pollers:
            process.kill()
            process.join()
    return good, 300


#: What a store of this schema has that the one before had not.
OLDER = {
    5: "CREATE TABLE older AS SELECT sample, identity, prompt, refs, target, timeline FROM samples;"
    "DROP TABLE samples; ALTER TABLE older RENAME TO samples;"
    "CREATE UNIQUE INDEX older ON samples(sample);",
    4: "ALTER TABLE metrics DROP COLUMN anchors;",
    3: "ALTER TABLE videos DROP COLUMN environment; DROP TABLE environments;",
    2: "ALTER TABLE set_scores DROP COLUMN influences;",
    1: "ALTER TABLE videos DROP COLUMN stamp; ALTER TABLE scores DROP COLUMN inputs;"
    "ALTER TABLE set_scores DROP COLUMN inputs; ALTER TABLE metrics DROP COLUMN family;"
    "ALTER TABLE metrics DROP COLUMN level; ALTER TABLE metrics DROP COLUMN diagnostic;"
    "ALTER TABLE metrics DROP COLUMN needs; DROP TABLE planned;",
}


def old_schema(folder: Path) -> Count:
    """Folders of earlier versions: read as they are, and gone on with."""
    expected, good = calm(folder), 0
    for version in sorted(OLDER, reverse=True):
        config = make_config(folder / str(version))
        here(config)
        with sqlite3.connect(config.folder / "store.sqlite") as db:
            for earlier in range(max(OLDER), version - 1, -1):
                db.executescript(OLDER[earlier])
            db.execute("UPDATE meta SET value = ? WHERE key = 'schema_version'", (str(version),))
        db.close()
        read = read_status(config.folder)["videos"]["done"] == 16
        again = here(config)
        good += read and again.generated == 0 and table_of(config.folder) == expected
    return good, len(OLDER)


def shared_run(folder: Path) -> Count:
    """Three processes that share a run, one of them killed; then merged."""
    prompts = [f"square {n}" for n in range(8)]
    expected = calm(folder, prompts)
    config = make_config(folder / "rough", prompts=prompts)

    def one() -> None:
        runner(config, generator=DrawnGenerator(delay=0.05), share=True).run()

    processes = [FORK.Process(target=one) for _ in range(3)]
    for process in processes:
        process.start()
    time.sleep(1.0)
    processes[0].kill()
    for process in processes:
        process.join()
    forked(one)
    parts = sorted(config.folder.parent.glob("run-part-*"))
    stand_ins = {"judge": PixelJudge(), "report": no_report, "generator": DrawnGenerator()}
    try:
        merge_shards(config.folder, parts, **stand_ins)
    except BenchError:
        return 0, 1
    return int(table_of(config.folder) == expected), 1


# Slow ones ---------------------------------------------------------------------------------------


@contextmanager
def cluster(cpus: int) -> Iterator[None]:
    import ray

    env = {"env_vars": {"PYTHONPATH": os.getcwd()}}
    ray.init(num_cpus=cpus, include_dashboard=False, logging_level="ERROR", runtime_env=env)
    try:
        yield
    finally:
        ray.shutdown()


def ray_unplaced(folder: Path) -> Count:
    """Four workers on a cluster with room for two."""
    with cluster(2):
        config = make_config(folder, engine={"kind": "ray", "workers": 4, "place_s": 5})
        runner(config).run()
    return int(table_of(config.folder) == calm(folder)), 1


def ray_lost_worker(folder: Path) -> Count:
    """SIGKILL of a cluster's worker."""
    import ray

    expected = calm(folder, args={"delay": DELAY})
    with cluster(2):
        config = delayed(folder / "rough", engine={"kind": "ray", "workers": 2})
        run = runner(config)

        def shoot() -> None:
            loop: Any = run.engine
            while not loop.working():
                time.sleep(0.01)
            pid, _ = ray.get(loop.workers[0].handle.actor.place.remote())
            os.kill(pid, signal.SIGKILL)

        thread = threading.Thread(target=shoot)
        thread.start()
        run.run()
        thread.join()
    return int(table_of(config.folder) == expected), 1


@contextmanager
def nodes(count: int) -> Iterator[Any]:
    """A cluster of a head without room and nodes with room for one worker each."""
    from ray.cluster_utils import Cluster

    os.environ["PYTHONPATH"] = os.getcwd()  # for the workers
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    try:
        for _ in range(count):
            made.add_node(num_cpus=1)
        made.wait_for_nodes()
        yield made
    finally:
        made.shutdown()


def _on_nodes(config: Any, words: Path) -> None:
    """A run on a cluster of several nodes; what it says at its end goes to a file."""
    try:
        runner(config).run()
    except BenchError as error:
        words.write_text(str(error))


def _clustered(config: Any, made: Any, harm: Callable[[], None] | None = None) -> str:
    """Run in a process of its own, harm the cluster after some videos; the error in words."""
    words = config.folder.parent / "words"
    words.unlink(missing_ok=True)
    engine = {"kind": "ray", "address": made.address, "workers": 2}
    config = config.model_copy(update={"engine": EngineConfig(**engine)})
    process = SPAWN.Process(target=_on_nodes, args=(config, words))
    process.start()
    if harm is not None:
        videos = config.folder / "videos"
        while len(list(videos.glob("??/*.mp4"))) < 4 and process.is_alive():
            time.sleep(0.05)
        harm()
    process.join()
    return words.read_text() if words.is_file() else "" if not process.exitcode else "killed"


def ray_lost_node(folder: Path) -> Count:
    """A node of a cluster is lost, and another comes."""
    expected, good = calm(folder, args={"delay": DELAY}), 0
    for n in range(3):
        config = delayed(folder / str(n))
        with nodes(2) as made:

            def harm(made: Any = made) -> None:
                made.remove_node(sorted(made.worker_nodes, key=str)[0], allow_graceful=False)
                made.add_node(num_cpus=1)

            said = _clustered(config, made, harm)
        good += not said and table_of(config.folder) == expected
    return good, 3


def ray_lost_head(folder: Path) -> Count:
    """A cluster's head is lost: it is said, and the same command on another cluster goes on."""
    slow = 10 * DELAY  # so that much is left to do when the loss is noticed
    expected, good = calm(folder, args={"delay": slow}), 0
    for n in range(3):
        config = delayed(folder / str(n), slow)
        with nodes(2) as made:
            said = _clustered(config, made, made.head_node.kill_gcs_server)
        done = read_status(config.folder)["videos"]["done"]
        with nodes(2) as made:
            again = _clustered(config, made)
        good += (
            "has lost its head" in said
            and 4 <= done < 16
            and not again
            and table_of(config.folder) == expected
        )
    return good, 3


def miniature_kills(folder: Path) -> Count:
    """SIGKILL of a sweep of the miniature, eight videos, three times at random moments."""
    command = [sys.executable, "-m", "bench.cli", "bench", "quick", "--limit", "4"]
    command += ["--set", "sweep.base={steps: 2, parallel: 0}"]
    command += ["--set", "sweep.grid={placement: [tass, overlap]}"]
    command += ["--set", "metrics.names=[identity.miniature, world.motion, temporal.flicker]"]

    def ended(name: str) -> float:
        started = time.perf_counter()
        run = [*command, "--run", str(folder / name)]
        done = subprocess.run(run, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{' '.join(run)} ended with {done.returncode}: {done.stderr}")
        return time.perf_counter() - started

    took, moments = ended("calm"), random.Random(3)
    killed = 0
    for _ in range(3):
        run = [*command, "--run", str(folder / "rough")]
        with open(os.devnull, "w") as nowhere:
            process = subprocess.Popen(run, stdout=nowhere, stderr=nowhere)
        time.sleep(moments.uniform(0.3, 0.9) * took)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
    ended("rough")
    return (killed, 3) if table_of(folder / "rough") == table_of(folder / "calm") else (0, 3)


FAULTS: tuple[Callable[[Path], Count], ...] = (
    first_50_ms, kills, hang, crash, gpu_fault, memory, wrong_values, fatal, lost_worker,
    full_disk, quota, read_only, flipped_bits, two_writers, polling, old_schema, shared_run,
)  # fmt: skip
SLOW = {
    "ray": (ray_unplaced, ray_lost_worker, ray_lost_node, ray_lost_head),
    "miniature": (miniature_kills,),
}


def main() -> None:
    names = [fault.__name__ for fault in (*FAULTS, *SLOW["ray"], *SLOW["miniature"])]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", choices=[*names, []], metavar="FAULT")
    parser.add_argument("--ray", action="store_true", help="a cluster's faults too")
    parser.add_argument("--miniature", action="store_true", help="the miniature's too")
    given = parser.parse_args()
    faults = [*FAULTS, *(SLOW["ray"] * given.ray), *(SLOW["miniature"] * given.miniature)]
    if given.names:
        every = [*FAULTS, *SLOW["ray"], *SLOW["miniature"]]
        faults = [fault for fault in every if fault.__name__ in given.names]
    missed = 0
    for fault in faults:
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            survived, tried = fault(Path(folder))
            seconds = time.perf_counter() - started
        missed += tried - survived
        about = (fault.__doc__ or "").splitlines()[0]
        print(f"{survived:4} / {tried:<4} {about} ({fault.__name__}, {seconds:.0f} s)", flush=True)
    raise SystemExit(missed > 0)


if __name__ == "__main__":
    main()

"""A local page on which a person compares videos blind, two at a time.

The page never learns an entry's name: videos are served under random words, sides are drawn by lot,
and only the server knows which is which. It listens on the loopback interface, answers only
requests that carry its own host name, and takes votes only with the token that the page was served
with. A vote is one line, appended and flushed to the disk under a lock before the next pair is
shown.
"""

from __future__ import annotations

import csv
import fcntl
import io
import itertools
import json
import os
import random
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from leaderboards.errors import LeaderboardError
from leaderboards.runs import read_run
from leaderboards.scores import Rows, records
from leaderboards.votes.strengths import DRAW, read_votes

HEADER = ("sample", "left", "right", "winner", "rater", "time")
_TYPES = {
    ".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """Two entries' videos of one sample, in the order in which they are shown."""

    sample: str
    left: str
    right: str
    left_video: Path
    right_video: Path
    prompt: str
    reference: Path | None


def pairs_of_run(run: str | Path, entries: Sequence[str], rater: str, limit: int | None = None
                 ) -> list[Pair]:  # fmt: skip
    """Every pair of the entries on every sample, in an order and with sides drawn by lot.

    entries: labels or keys of at least two entries. rater: seeds the lot, so that a rater who comes
    back goes on in the same order. limit: keep so many.
    Raises LeaderboardError where an entry is unknown or no sample has two videos.
    """
    rows = read_run(run)
    chosen = [_entry(rows, name) for name in entries]
    if len(set(chosen)) < 2:
        raise LeaderboardError("a comparison needs two entries: name at least two.")
    labels = {entry.key: entry.label for entry in rows.entries}
    names = [labels[key] for key in chosen]
    if len(set(names)) < len(names) or DRAW in names:
        raise LeaderboardError("the entries need labels that differ (and none may be 'draw').")
    root = rows.root or Path(run)
    about = {str(row["sample"]): row for row in records(rows.samples)}
    files: dict[tuple[str, str, int], Path] = {}
    for row in records(rows.videos):
        if row["entry"] not in chosen or row["status"] != "done" or not row["path"]:
            continue
        pure = PurePosixPath(row["path"])
        if pure.is_absolute() or ".." in pure.parts:
            raise LeaderboardError(f"the store's path {row['path']!r} leaves the run folder.")
        if (root / pure).is_file():
            files[row["entry"], str(row["sample"]), int(row["seed"])] = root / pure
    lot = random.Random(f"votes/{rater}")
    out = []
    for sample, seed in sorted({key[1:] for key in files}):
        refs = about.get(sample, {}).get("refs", [])
        reference = root / refs[0] if refs and (root / refs[0]).is_file() else None
        for a, b in itertools.combinations(chosen, 2):
            if (a, sample, seed) not in files or (b, sample, seed) not in files:
                continue
            if lot.random() < 0.5:
                a, b = b, a
            out.append(
                Pair(
                    sample, labels[a], labels[b],
                    files[a, sample, seed], files[b, sample, seed],
                    str(about.get(sample, {}).get("prompt") or ""), reference,
                )
            )  # fmt: skip
    if not out:
        raise LeaderboardError(
            f"no sample of {run} has videos of two of the entries: finish the run."
        )
    lot.shuffle(out)
    return out[:limit]


def _entry(rows: Rows, name: str) -> str:
    for test in (
        lambda e: e.key == name,
        lambda e: e.label == name,
        lambda e: e.key.startswith(name),
    ):
        found = [entry.key for entry in rows.entries if test(entry)]
        if len(found) == 1:
            return found[0]
    known = ", ".join(entry.label for entry in rows.entries[:8])
    raise LeaderboardError(f"{name!r} is no single entry of the run: give labels such as {known}.")


class VoteFile:
    """A CSV of votes that several processes may append to.

    A line that a crash cut short is ended before the next vote is written; a vote counts only once
    it is on the disk.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @contextmanager
    def _locked(self) -> Iterator[io.FileIO]:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with io.FileIO(self.path, "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield file

    def append(self, pair: Pair, winner: str, rater: str) -> None:
        """Write one vote and wait until it is on the disk. winner: left, right or draw."""
        name = {"left": pair.left, "right": pair.right, "draw": DRAW}[winner]
        now = datetime.now(UTC).isoformat(timespec="seconds")
        with self._locked() as file:
            buffer = io.StringIO()
            writer = csv.writer(buffer, lineterminator="\n")
            size = file.seek(0, os.SEEK_END)
            if size == 0:
                writer.writerow(HEADER)
            else:
                file.seek(size - 1)
                if file.read(1) != b"\n":
                    file.seek(0)
                    whole = file.readall()
                    file.truncate(whole.rfind(b"\n") + 1)  # a vote cut short never counted
            writer.writerow([pair.sample, pair.left, pair.right, name, rater, now])
            file.write(buffer.getvalue().encode())
            os.fsync(file.fileno())

    def given(self, rater: str) -> set[tuple[str, frozenset[str]]]:
        """Sample and entries of the votes that a rater has given already."""
        if not self.path.is_file() or self.path.read_bytes().count(b"\n") < 2:
            return set()
        votes = read_votes(self.path)
        mine = votes[votes["rater"] == rater] if "rater" in votes else votes[:0]
        return {(row["sample"], frozenset((row["left"], row["right"]))) for row in records(mine)}


def _page() -> str:
    return (resources.files("leaderboards.votes") / "assets" / "vote.html").read_text("utf-8")


class VoteServer(ThreadingHTTPServer):
    """Serves the page for one rater on 127.0.0.1.

    Args:
        pairs: what to compare, in order; those the rater has judged already are skipped.
        votes: where votes go.
        rater: a name that tells raters apart in the file.
        port: 0 picks a free one.
    """

    daemon_threads = True

    def __init__(self, pairs: Sequence[Pair], votes: VoteFile, rater: str, port: int = 0) -> None:
        if not rater.strip() or "\n" in rater:
            raise LeaderboardError("the rater's name is empty: give one, such as your initials.")
        given = votes.given(rater)
        done = {n for n, p in enumerate(pairs) if (p.sample, frozenset((p.left, p.right))) in given}
        self.pairs = list(pairs)
        self.left_to_do = [n for n in range(len(pairs)) if n not in done]
        self.votes, self.rater = votes, rater
        self.token = secrets.token_urlsafe(24)
        self.lock = threading.Lock()
        self.media: dict[str, Path] = {}
        self.ids: dict[str, int] = {}
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def current(self) -> dict[str, Any]:
        """The next pair under fresh names, and how far the rater has come."""
        total = len(self.pairs)
        if not self.left_to_do:
            return {"pair": None, "done": total, "total": total}
        number = self.left_to_do[0]
        pair = self.pairs[number]
        self.media.clear()  # only what is on the screen can be fetched
        self.ids.clear()
        word = secrets.token_urlsafe(12)
        self.ids[word] = number

        def serve(path: Path) -> str:
            name = f"media/{secrets.token_urlsafe(12)}{path.suffix.lower()}"
            self.media[f"/{name}"] = path
            return name

        shown = {
            "id": word,
            "prompt": pair.prompt,
            "left": serve(pair.left_video),
            "right": serve(pair.right_video),
            "reference": serve(pair.reference) if pair.reference else None,
        }
        return {"pair": shown, "done": total - len(self.left_to_do), "total": total}

    def take(self, word: Any, winner: Any) -> dict[str, Any]:
        """Record a vote on the pair that was shown under `word`; returns the next one."""
        with self.lock:
            number = self.ids.get(word) if isinstance(word, str) else None
            if number is None or winner not in ("left", "right", "draw"):
                raise LeaderboardError("this pair is not on the screen any more; reload the page.")
            self.votes.append(self.pairs[number], winner, self.rater)
            self.left_to_do.remove(number)
            return self.current()


class _Handler(BaseHTTPRequestHandler):
    server: VoteServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not worth a line each."""

    def _own(self) -> bool:
        """Whether the request was meant for us: a page elsewhere may point its name here."""
        port = self.server.server_address[1]
        if self.headers.get("Host") in (f"127.0.0.1:{port}", f"localhost:{port}"):
            return True
        self._send(403, b"wrong host", "text/plain")
        return False

    def _send(self, code: int, body: bytes, kind: str, **headers: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        if not self._own():
            return
        if self.path == "/":
            page = _page().replace("{{ token }}", self.server.token)
            policy = "default-src 'self' 'unsafe-inline' data:; frame-ancestors 'none'"
            self._send(200, page.encode(), "text/html; charset=utf-8",
                       Content_Security_Policy=policy)  # fmt: skip
            return
        path = self.server.media.get(self.path)
        if path is None:
            self._send(404, b"not found", "text/plain")
            return
        body = path.read_bytes()
        kind = _TYPES.get(path.suffix.lower(), "application/octet-stream")
        asked = self.headers.get("Range", "")
        if asked.startswith("bytes=") and "," not in asked:
            first, _, last = asked[6:].partition("-")
            try:
                start = int(first) if first else max(0, len(body) - int(last))
                end = min(int(last), len(body) - 1) if first and last else len(body) - 1
            except ValueError:
                start, end = 0, -1
            if not 0 <= start <= end:
                self._send(416, b"", kind, Content_Range=f"bytes */{len(body)}")
                return
            where = f"bytes {start}-{end}/{len(body)}"
            self._send(206, body[start : end + 1], kind, Content_Range=where, Accept_Ranges="bytes")
            return
        self._send(200, body, kind, Accept_Ranges="bytes")

    def do_POST(self) -> None:
        if not self._own():
            return
        if not secrets.compare_digest(self.headers.get("X-Token", ""), self.server.token):
            self._send(403, b"reload the page", "text/plain")
            return
        try:
            length = int(self.headers.get("Content-Length", "0"))
            if not 0 <= length <= 4096:
                raise ValueError("too long")
            asked = json.loads(self.rfile.read(length) or b"{}")
            if self.path == "/next":
                with self.server.lock:
                    answer = self.server.current()
            elif self.path == "/vote":
                answer = self.server.take(asked.get("pair"), asked.get("winner"))
            else:
                self._send(404, b"not found", "text/plain")
                return
        except (ValueError, AttributeError, OSError) as error:
            self._send(400, str(error).encode(), "text/plain; charset=utf-8")
            return
        self._send(200, json.dumps(answer).encode(), "application/json")

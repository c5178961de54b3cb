"""A local page on which a person compares videos blind, two at a time.

The page never learns an entry's name: videos are served under random words and only the server
knows which is which. It listens on the loopback interface, answers only requests that carry its own
host name, and takes votes only with the token that the page was served with. A vote is on the disk
before the next pair is shown.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from typing import Any

from leaderboards.errors import LeaderboardError
from leaderboards.votes.ballots import BOTH_BAD, DRAW, QUESTIONS, VoteFile
from leaderboards.votes.pairs import Pair

_TYPES = {
    ".mp4": "video/mp4", ".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
    ".webp": "image/webp",
}  # fmt: skip


class VoteServer(ThreadingHTTPServer):
    """Serves the page for one rater on 127.0.0.1.

    Args:
        pairs: what to compare, in order; what the rater has judged already is skipped.
        votes: where votes go.
        rater: a name that tells raters apart in the file.
        port: 0 picks a free one.
        questions: what is asked about each pair, one after the other; names of QUESTIONS. One that
            a pair has nothing for (no picture, no text, no timeline) is left out for it.
        least: seconds that a pair has to be on the screen before its first vote is taken.
    """

    daemon_threads = True

    def __init__(
        self,
        pairs: Sequence[Pair],
        votes: VoteFile,
        rater: str,
        port: int = 0,
        questions: Sequence[str] = ("overall",),
        least: float = 2.0,
    ) -> None:
        if not rater.strip() or "\n" in rater:
            raise LeaderboardError("the rater's name is empty: give one, such as your initials.")
        unknown = [name for name in questions if name not in QUESTIONS]
        if unknown or not questions:
            raise LeaderboardError(
                f"{', '.join(unknown) or 'nothing'} cannot be asked: choose among "
                f"{', '.join(QUESTIONS)}."
            )
        given = votes.given(rater)
        tasks = [
            (pair, question)
            for pair in pairs
            for question in questions
            if (question != "identity" or pair.reference)
            and (question != "prompt" or pair.prompt)
            and (question != "timeline" or pair.timeline)
        ]
        if not tasks:
            raise LeaderboardError(
                f"no pair has what {', '.join(questions)} asks about: choose other questions."
            )
        self.total = len(tasks)
        self.left_to_do = [
            (p, q)
            for p, q in tasks
            if (p.sample, str(p.seed), q, frozenset((p.left, p.right))) not in given
        ]
        self.votes, self.rater, self.least = votes, rater, least
        self.token = secrets.token_urlsafe(24)
        self.lock = threading.Lock()
        self.media: dict[str, Path] = {}
        self.shown: dict[str, Any] = {}
        self.since = 0.0
        super().__init__(("127.0.0.1", port), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"

    def current(self, again: bool = False) -> dict[str, Any]:
        """The next pair under fresh names, the question, and how far the rater has come.

        again: the pair that was just judged stays on the screen if it has another question.
        """
        progress = {"done": self.total - len(self.left_to_do), "total": self.total}
        if not self.left_to_do:
            return {"pair": None, **progress}
        pair, question = self.left_to_do[0]
        if not (again and self.shown.get("pair") is pair):
            self.media.clear()  # only what is on the screen can be fetched
            self.since = time.monotonic()
            self.shown = {
                "pair": pair,
                "left": self._serve(pair.left_video),
                "right": self._serve(pair.right_video),
                "reference": self._serve(pair.reference) if pair.reference else None,
            }
        self.shown["id"] = secrets.token_urlsafe(12)
        told = {
            **{name: self.shown[name] for name in ("id", "left", "right", "reference")},
            "prompt": pair.prompt,
            "timeline": [list(event) for event in pair.timeline],
            "question": QUESTIONS[question],
            "wait": max(0.0, self.least - (time.monotonic() - self.since)),
        }
        return {"pair": told, **progress}

    def _serve(self, path: Path) -> str:
        name = f"media/{secrets.token_urlsafe(12)}{path.suffix.lower()}"
        self.media[f"/{name}"] = path
        return name

    def take(self, word: Any, winner: Any) -> dict[str, Any]:
        """Record a vote on the pair that was shown under `word`; returns the next one.

        winner: "left", "right", "draw" or "bad" (both are).
        """
        with self.lock:
            if not isinstance(word, str) or word != self.shown.get("id") or not self.left_to_do:
                raise LeaderboardError("this pair is not on the screen any more; reload the page.")
            pair, question = self.left_to_do[0]
            names = {"left": pair.left, "right": pair.right, "draw": DRAW, "bad": BOTH_BAD}
            if not isinstance(winner, str) or winner not in names:
                raise LeaderboardError(f"{winner!r} is not an answer: {', '.join(names)} are.")
            seen = time.monotonic() - self.since
            if seen < self.least:
                raise LeaderboardError(f"look at both videos for {self.least:g} s before you vote.")
            self.votes.append(
                {
                    "sample": pair.sample,
                    "seed": str(pair.seed),
                    "identity": pair.identity,
                    "question": question,
                    "left": pair.left,
                    "right": pair.right,
                    "winner": names[winner],
                    "rater": self.rater,
                    "seconds": f"{seen:.1f}",
                    "check": names[pair.check] if pair.check else "",
                }
            )
            self.left_to_do.pop(0)
            return self.current(again=True)


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
            file = resources.files("leaderboards.votes") / "assets" / "vote.html"
            page = file.read_text("utf-8").replace("{{ token }}", self.server.token)
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

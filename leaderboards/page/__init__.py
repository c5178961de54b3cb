"""The page of a leaderboard: one HTML file that a browser opens without a server."""

from leaderboards.page.data import inline_json
from leaderboards.page.write import write_page

__all__ = ["inline_json", "write_page"]

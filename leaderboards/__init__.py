"""From scores to what people publish: ranked tables, ablations, a page, votes, submission archives.

Names are imported when they are first used, so that a command line that only wants an error class
does not wait for pandas.

>>> from leaderboards import Leaderboard, bradley_terry, pack_submission, check_submission
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)

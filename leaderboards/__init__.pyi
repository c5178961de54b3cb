from .ablations import Ablation as Ablation
from .ablations import ablation as ablation
from .errors import IncompleteEntryError as IncompleteEntryError
from .errors import LeaderboardError as LeaderboardError
from .errors import ScoresMovedError as ScoresMovedError
from .errors import UnknownNameError as UnknownNameError
from .errors import UnrankableError as UnrankableError
from .errors import UnreadableVideoError as UnreadableVideoError
from .leaderboard import Cell as Cell
from .leaderboard import Leaderboard as Leaderboard
from .scores import Column as Column
from .scores import Entry as Entry
from .submission import (
    FORMATS as FORMATS,
)
from .submission import (
    check_submission as check_submission,
)
from .submission import (
    pack_submission as pack_submission,
)
from .votes import (
    agreement as agreement,
)
from .votes import (
    bradley_terry as bradley_terry,
)
from .votes import (
    read_votes as read_votes,
)
from .votes import (
    vote_points as vote_points,
)

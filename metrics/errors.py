"""What a user of the metrics can fix."""

from media import errors
from media.errors import UserError


class MetricsError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownNameError(MetricsError, errors.UnknownNameError):
    """No metric, pattern, family, network or face backend has that name."""


class WeightsMissingError(MetricsError, errors.WeightsMissingError):
    """Weights that a metric needs aren't on this machine."""


class NoFaceError(MetricsError, errors.NoFaceError):
    """A reference or target in which no face was found."""

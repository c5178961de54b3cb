"""What a user of the metrics can fix."""

from media.errors import UnknownNameError, UserError, WeightsMissingError


class MetricsError(UserError):
    """A one-sentence problem that says what is wrong, where, and what to do."""


class UnknownMetricError(MetricsError, UnknownNameError):
    """No metric, pattern or family bears that name."""


class MissingWeightsError(MetricsError, WeightsMissingError):
    """Weights that a metric needs aren't on this machine."""

"""Errors of networks and devices; the root is `types.EmotionError`.

EmotionError
 +-- WeightsError
 |    +-- WeightsMissing    not pulled yet
 |    +-- WeightsDamaged    the file does not match the hash of its record
 |    +-- WrongNetwork      the file is intact, but of another network than its record describes
 |    +-- CardError         the card beside a user's own network is invalid
 +-- OutputsError           a network returned NaN or infinity
"""

from emotion.types import EmotionError


class WeightsError(EmotionError):
    """Weights are missing or wrong."""


class WeightsMissing(WeightsError):
    """The weights are not in the cache yet."""


class WeightsDamaged(WeightsError):
    """A weights file does not match the hash of its record."""


class WrongNetwork(WeightsError):
    """The weights are not of the network that the record describes."""


class CardError(WeightsError):
    """The card beside a user's own network is invalid."""


class OutputsError(EmotionError):
    """A network returned NaN or infinity."""

"""Errors of networks and devices; the root is `types.EmotionError`.

EmotionError
 +-- WeightsError
 |    +-- WeightsMissing    not pulled yet
 |    +-- WeightsDamaged    the file is not the one that the record names
 |    +-- WrongNetwork      the file is whole, and not of the network that the record describes
 |    +-- CardError         the card beside a user's own network does not fit
 +-- OutputsError           a network answered with what is no number
"""

from emotion.types import EmotionError


class WeightsError(EmotionError):
    """Weights cannot be had, or are not what they should be."""


class WeightsMissing(WeightsError):
    """The weights are not in the cache yet."""


class WeightsDamaged(WeightsError):
    """A weights file is not the one that the record names."""


class WrongNetwork(WeightsError):
    """The weights are not of the network that the record describes."""


class CardError(WeightsError):
    """The card beside a user's own network does not fit."""


class OutputsError(EmotionError):
    """A network answered with what is no number."""

"""Pose of a face from its five landmarks: approximations, not the angles of a head."""

import numpy as np

from emotion.types import Float32


def pose(landmarks: Float32) -> Float32:
    """Return float32 (M, 2) of landmarks (M, 5, 2): roll in degrees, and a proxy of yaw.

    roll: of the line through the eyes, positive if the head is tilted clockwise in the picture.
    yaw: offset of the nose from the midpoint of the eyes, along that line, divided by the distance
    of the eyes: 0 for a frontal face, about 0.5 at profile, positive if it is turned to the
    right of the picture. NaN if both eyes are at the same point.
    """
    eyes = landmarks[:, 1] - landmarks[:, 0]
    apart_squared = (eyes**2).sum(axis=1)
    roll = np.degrees(np.arctan2(eyes[:, 1], eyes[:, 0]))
    off = landmarks[:, 2] - (landmarks[:, 0] + landmarks[:, 1]) / 2
    nothing = np.full(len(landmarks), np.nan, dtype=np.float32)
    seen = apart_squared > 0
    yaw = np.divide((off * eyes).sum(axis=1), apart_squared, out=nothing, where=seen)
    return np.stack([np.where(seen, roll, np.nan), yaw], axis=1).astype(np.float32)

"""The sides that training data show heads from."""

import math

import torch

from gghead.cameras import Cameras

_SHARE = 0.99  # of the images; single wrong labels do not count
_GAP = 60.0  # degrees; no side is farther than half of it from a camera


def seen_yaws(cameras: Cameras) -> tuple[float, float]:
    """Return from where to where the cameras stand, in degrees of yaw; all sides are (-180, 180).

    It is the narrowest stretch that 99 % of the cameras stand in. The first number is in
    [-180, 180). The second is not smaller, and is above 180 where the stretch leads across the back
    of the head. Data show all sides where the stretch leaves out at most 60 degrees.
    """
    yaw = (cameras.angles()[0].flatten().double().rad2deg() % 360).sort().values
    within = math.ceil(_SHARE * len(yaw))
    widths = torch.cat([yaw, yaw + 360])[within - 1 : within - 1 + len(yaw)] - yaw
    first = int(widths.argmin())
    width = float(widths[first])
    if 360 - round(width, 1) <= _GAP:  # six cameras in a ring leave out 60 but for rounding
        return -180.0, 180.0
    low = (float(yaw[first]) + 180) % 360 - 180
    return round(low, 1), round(low + width, 1)

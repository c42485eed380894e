"""Do the views' cameras look at the head that the pictures show? The data check's questions, for a handful of views."""

import torch

from gghead.data.check.cameras import angles, check_cameras
from gghead.data.check.findings import ERROR, ordered
from gghead.data.check.silhouettes import check_silhouettes, fit, small_mask
from gghead.reconstruction.inputs import InputViews
from gghead.torch_utils.errors import UserError


def check_views(views: InputViews, where: str) -> list[str]:
    """Return warnings; compare cameras with the head's place, and masks with the projected template.

    Raises ``UserError`` where cameras cannot be those of the pictures (axes, units, crop, left and right), with the
    likely cause and the remedy.
    """
    labels = views.cameras.label().double().cpu().numpy()
    names = list(views.names)
    findings, usable = check_cameras(labels, names)
    if views.masked and usable.any():
        chosen = usable.nonzero()[0].tolist()
        masks = (views.alpha[:, 0] * 255).round().to(torch.uint8).cpu().numpy()
        fits = [fit(labels[index], small_mask(masks[index])) for index in chosen]
        findings += check_silhouettes(fits, angles(labels[chosen])[:, 0], [names[index] for index in chosen])
    for found in ordered(findings):
        alone = found.code == "from-behind" and len(views) == 1  # one view may well be of the back of a head
        if found.severity == ERROR and not alone:
            raise UserError(f"{where}: {found.sentence()} --check=0 goes on all the same.")
    return [found.sentence() for found in ordered(findings)]

"""Notices when a run begins to fall apart.

Holes, stripes, vanishing Gaussians, a lost generator, equal samples.

What goes wrong with Gaussian heads shows in numbers before it shows in images: Gaussians shrink
below the spacing of their texels, the background appears between them, and the discriminator wins.
The functions below measure single things; ``Watchdog`` keeps what has to be compared over time and
says in sentences what is wrong.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

QUANTILES = (0.01, 0.10, 0.50, 0.90, 0.99)
_MAX_VALUES = 1 << 20  # torch.quantile refuses more than 2^24 and needs no more than this


@dataclass(frozen=True)
class WatchdogConfig:
    """Where a warning begins."""

    max_uncovered: float = 0.08
    """Share of head pixels with alpha below 0.9; soft hair alone makes 2 to 6 % on photos at 64
    pixels."""
    max_stripes: float = 0.05
    """Root mean square of the fine variation of alpha inside the head."""
    min_scale: float = 0.3
    """Smallest sound 10 % quantile of the Gaussians' extent over the texel spacing."""
    max_scale: float = 8.0
    """Largest sound 99 % quantile of the same."""
    min_opacity: float = 0.05
    """Smallest sound median opacity."""
    max_sign: float = 0.95
    """Mean sign of the real scores above which the discriminator has won ..."""
    sign_ticks: int = 5
    """... if it stays there for so many ticks in a row."""
    min_diversity: float = 0.5
    """Sound diversity of the samples, as a share of the best that the run has had."""


# --------------------------------------------------------------------------------------------------
# Single measurements


def head_mask(alpha: Tensor) -> Tensor:  # [N, 1, H, W] in [0, 1] -> bool [N, 1, H, W]
    """Return the pixels safely inside the head.

    Holes and stripes are included, its soft outline is not.

    Solid pixels (alpha above one half) are closed by a square of an eighth of the image, then
    everything that has solid pixels on all four sides is filled, then a rim of 1/16 of the image is
    taken off. The image border is no outline: there a neck goes on.
    """
    solid = (alpha > 0.5).float()
    reach = max(min(alpha.shape[2:]) // 16, 1)
    closed = _erode(_dilate(solid, reach), reach) > 0
    between = (
        _any_before(closed, 3)
        & _any_after(closed, 3)
        & _any_before(closed, 2)
        & _any_after(closed, 2)
    )
    return _erode((closed | between).float(), reach) > 0


def _dilate(mask: Tensor, reach: int) -> Tensor:
    return F.max_pool2d(mask, 2 * reach + 1, stride=1, padding=reach)


def _erode(mask: Tensor, reach: int) -> Tensor:
    return -F.max_pool2d(-mask, 2 * reach + 1, stride=1, padding=reach)  # pads with "inside"


def _any_before(mask: Tensor, dim: int) -> Tensor:
    return mask.cummax(dim).values


def _any_after(mask: Tensor, dim: int) -> Tensor:
    return mask.flip(dim).cummax(dim).values.flip(dim)


def uncovered_share(
    alpha: Tensor,  # [N, 1, H, W] in [0, 1]
    mask: Tensor | None = None,  # bool [N, 1, H, W]; None: head_mask(alpha)
) -> float:
    """Return the share of head pixels with alpha < 0.9; 1 where no head is left at all."""
    mask = head_mask(alpha) if mask is None else mask
    total = int(mask.sum())
    # a NaN counts as uncovered
    return float((mask & ~(alpha >= 0.9)).sum()) / total if total else 1.0


def stripes(
    alpha: Tensor,  # [N, 1, H, W] in [0, 1]
    mask: Tensor | None = None,  # bool [N, 1, H, W]; None: head_mask(alpha)
) -> float:
    """Return the root mean square deviation of alpha from its local mean inside the head.

    It is 0 for a solid one.

    The local mean is taken over 3x3 pixels at 64, and over head pixels only: as wide as stripes
    are, and so small that the soft outline of hair adds little (0.02 for solid heads at 64 pixels,
    0.09 with every third row at 0.8).
    """
    mask = (head_mask(alpha) if mask is None else mask).to(alpha.dtype)
    reach = max(min(alpha.shape[2:]) // 64, 1)
    inside, share = (
        F.avg_pool2d(value, 2 * reach + 1, stride=1, padding=reach)
        for value in (alpha * mask, mask)
    )
    mean = inside / share.clamp_min(1e-6)
    energy = ((alpha - mean).square() * mask).sum() / mask.sum().clamp_min(1)
    return float(energy.sqrt())


def relative_extent(
    scales: Tensor,  # [..., N, 3] standard deviations, world units
    spacing: Tensor,  # [..., N] or [N] or scalar: distance between neighboring texels, world units
) -> Tensor:  # [..., N]
    """Return the second largest scale over the texel spacing.

    A Gaussian lying on the surface may be thin across it; gaps open when the smaller of the other
    two falls short.
    """
    return scales.sort(-1).values[..., 1] / spacing


def quantiles(values: Tensor) -> dict[str, float]:  # any shape
    """Return the 1, 10, 50, 90 and 99 % quantiles as {"q01": …, …}.

    They are of at most about a million evenly picked values.
    """
    flat = values.detach().float().flatten()
    flat = flat[:: math.ceil(flat.numel() / _MAX_VALUES)]
    levels = torch.quantile(flat, torch.tensor(QUANTILES, device=flat.device)).tolist()
    return {f"q{round(100 * q):02d}": value for q, value in zip(QUANTILES, levels, strict=True)}


def diversity(images: Tensor) -> float:  # [N, C, H, W]
    """Return the mean absolute difference between two images of the set, at 16x16 pixels.

    Only comparable over time for the same cameras and background: give it fixed seeds seen from the
    front.
    """
    if len(images) < 2:
        raise ValueError("diversity needs at least 2 images")
    small = F.adaptive_avg_pool2d(images.detach().float(), 16).flatten(1)
    return float(torch.pdist(small, p=1).mean() / small.shape[1])


# --------------------------------------------------------------------------------------------------
# Over time


class Watchdog:
    """Measures once per tick and judges the course of the run.

    Its state is plain numbers, for an exact resume.
    """

    def __init__(self, config: WatchdogConfig | None = None) -> None:
        self.config = config or WatchdogConfig()
        self.values: dict[str, float] = {}  # of the last observation
        self.best_diversity = 0.0
        self.sign_ticks = 0  # ticks in a row with the discriminator winning

    @torch.no_grad()
    def observe(
        self,
        *,
        alpha: Tensor | None = None,  # [N, 1, H, W] rendered, in [0, 1]
        # bool [N, 1, H, W] where the head should be; None: taken from alpha
        mask: Tensor | None = None,
        scales: Tensor | None = None,  # [..., N, 3] standard deviations, world units
        spacing: Tensor | None = None,  # [..., N] or scalar, world units; needed with scales
        opacities: Tensor | None = None,  # [..., N] in [0, 1]
        fakes: Tensor | None = None,  # [N, C, H, W] fixed seeds, cameras and background
        sign_real: float | None = None,  # mean sign of the real scores over the tick
        sign_fake: float | None = None,
    ) -> dict[str, float]:
        """Take a tick's measurements from whatever is given.

        Returns scalars named ``Watchdog/…`` for the statistics.

        Call it once per tick.
        """
        values: dict[str, float] = {}
        if alpha is not None:
            mask = head_mask(alpha) if mask is None else mask
            values |= {"uncovered": uncovered_share(alpha, mask), "stripes": stripes(alpha, mask)}
        if scales is not None:
            if spacing is None:
                raise ValueError("scales need the texels' spacing")
            extent = quantiles(relative_extent(scales, spacing))
            values |= {f"scale/{name}": value for name, value in extent.items()}
        if opacities is not None:
            values |= {f"opacity/{name}": value for name, value in quantiles(opacities).items()}
        if fakes is not None:
            values["diversity"] = diversity(fakes)
            if math.isfinite(values["diversity"]):
                self.best_diversity = max(self.best_diversity, values["diversity"])
        if sign_real is not None:
            values["sign_real"] = sign_real
            self.sign_ticks = self.sign_ticks + 1 if sign_real > self.config.max_sign else 0
        if sign_fake is not None:
            values["sign_fake"] = sign_fake
        self.values = values
        return {f"Watchdog/{name}": value for name, value in values.items()}

    def verdict(self) -> list[str]:
        """Return one sentence for everything that is wrong at the last observation.

        None means sound.
        """
        config, warnings = self.config, []

        def check(name: str, wrong, sentence: str) -> None:
            value = self.values.get(name)
            if value is not None and wrong(value):
                warnings.append(sentence.format(value))

        broken = [name for name, value in self.values.items() if not math.isfinite(value)]
        if broken:
            warnings.append(
                f"{', '.join(broken)} is not a number: the heads of the average cannot be drawn "
                "any more. The run ends where a weight is no number."
            )
        check(
            "uncovered",
            lambda v: v > config.max_uncovered,
            "{:.1%} of the head's pixels let the background through (alpha below 0.9): Gaussians"
            " leave gaps.",
        )
        check(
            "stripes",
            lambda v: v > config.max_stripes,
            "Alpha varies by {:.3f} inside the head: holes or stripes are forming.",
        )
        check(
            "scale/q10",
            lambda v: v < config.min_scale,
            "A tenth of the Gaussians are smaller than {:.2f} texel spacings: they no longer touch"
            " each other.",
        )
        check(
            "scale/q99",
            lambda v: v > config.max_scale,
            "One in a hundred Gaussians is larger than {:.1f} texel spacings: detail is being"
            " smeared.",
        )
        check(
            "opacity/q50",
            lambda v: v < config.min_opacity,
            "Half of the Gaussians have an opacity below {:.3f}: the head is dissolving.",
        )
        if self.sign_ticks >= config.sign_ticks:
            warnings.append(
                f"The discriminator has recognized nearly all real images for {self.sign_ticks}"
                " ticks: it is winning; raise `gamma` or use `aug='ada'`."
            )
        floor = config.min_diversity * self.best_diversity
        check(
            "diversity",
            lambda v: v < floor,
            f"Samples differ by {{:.3f}} only, after {self.best_diversity:.3f} at best: modes are"
            " collapsing.",
        )
        return warnings

    def state_dict(self) -> dict[str, float]:
        """Everything ``load_state_dict`` needs."""
        return {"best_diversity": self.best_diversity, "sign_ticks": self.sign_ticks}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Continue from ``state_dict()``."""
        self.best_diversity, self.sign_ticks = (
            float(state["best_diversity"]),
            int(state["sign_ticks"]),
        )

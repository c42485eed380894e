import math

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from gghead.image_metrics import psnr, ssim
from gghead.torch_utils.errors import UserError


def images(seed=0, size=20):
    generator = torch.Generator().manual_seed(seed)
    first = torch.rand(2, 3, size, size, generator=generator)
    return first, (first + 0.1 * torch.randn(2, 3, size, size, generator=generator)).clamp(0, 1)


def test_psnr_is_the_formula():
    first, second = images()
    expected = [
        -10 * math.log10(float((a - b).square().mean())) for a, b in zip(first, second, strict=True)
    ]
    assert psnr(first, second).tolist() == pytest.approx(expected, rel=1e-5)
    assert psnr(first, first).tolist() == [100.0, 100.0]
    assert float(psnr(torch.zeros(3, 4, 4), torch.full((3, 4, 4), 0.1))) == pytest.approx(
        20.0, abs=1e-4
    )


def test_ssim_is_wangs():
    """Against the definition with scipy's Gaussian filter, cut to 11 taps."""
    first, second = (x.double() for x in images())

    def blur(x):
        return gaussian_filter(x, 1.5, truncate=5 / 1.5, mode="reflect")[5:-5, 5:-5]

    values = []
    for x, y in zip(first[0].numpy(), second[0].numpy(), strict=True):
        mx, my = blur(x), blur(y)
        vx, vy, c = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
        values.append(
            (
                (2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4))
            ).mean()
        )
    assert float(ssim(first, second)[0]) == pytest.approx(np.mean(values), rel=1e-9)
    assert torch.allclose(ssim(first, first), torch.ones(2, dtype=torch.float64))


def test_ssim_is_that_of_torchmetrics():
    """Which pads images by reflection and averages over all of them: only inside are both the
    same."""
    from torchmetrics.functional.image import structural_similarity_index_measure

    first, second = (x[..., :17].double() for x in images())
    _, values = structural_similarity_index_measure(
        first, second, data_range=1.0, return_full_image=True
    )
    expected = values[..., 5:-5, 5:-5].mean((1, 2, 3))
    assert torch.allclose(ssim(first, second), expected, rtol=0, atol=1e-12)


def test_masks_hide_what_is_outside():
    first, second = images()
    mask = torch.zeros(2, 1, 20, 20)
    mask[..., 8:12, 8:12] = 1
    elsewhere = second.clone()
    elsewhere[..., :2, :] = 0  # outside the mask, and outside the windows around its pixels
    assert torch.equal(psnr(first, second, mask), psnr(first, elsewhere, mask))
    assert torch.allclose(ssim(first, second, mask), ssim(first, elsewhere, mask), atol=1e-6)
    assert (psnr(first, elsewhere) < psnr(first, second)).all()
    assert torch.allclose(psnr(first, second, torch.ones_like(mask)), psnr(first, second))


def test_wrong_input_is_a_sentence():
    first, second = images()
    with pytest.raises(ValueError, match="one shape"):
        psnr(first, second[:1])
    with pytest.raises(ValueError, match="mask must have the shape"):
        psnr(first, second, torch.ones(2, 20, 20))
    with pytest.raises(UserError, match="mask is empty"):
        ssim(first, second, torch.zeros(2, 1, 20, 20))
    with pytest.raises(UserError, match="at least 11x11"):
        ssim(first[..., :8], second[..., :8])

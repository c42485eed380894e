"""Fréchet distance between Gaussians fitted to two sets of features.

Heusel et al. 2017, equation 6.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class GaussianFit:
    """Running count, mean and covariance of feature vectors, in float64."""

    count: int
    total: Tensor  # [D] sum of x
    outer: Tensor  # [D, D] sum of (x - reference)(x - reference)^T
    reference: Tensor  # [D] an early feature; subtracting it keeps the sums well conditioned

    @classmethod
    def empty(cls, reference: Tensor) -> "GaussianFit":  # reference [D]: any typical feature
        """Start a fit that has seen nothing yet."""
        reference = reference.detach().double()
        dims = len(reference)
        return cls(0, reference.new_zeros(dims), reference.new_zeros(dims, dims), reference)

    @classmethod
    def of(cls, features: Tensor) -> "GaussianFit":  # [N, D]
        """Fit a whole set at once."""
        fit = cls.empty(features[0])
        fit.add(features)
        return fit

    def add(self, features: Tensor) -> None:  # [N, D]
        """Add a batch."""
        centered = features.detach().double() - self.reference
        self.count += len(centered)
        self.total += centered.sum(0)
        self.outer += centered.T @ centered

    @property
    def mean(self) -> Tensor:  # [D]
        """Mean of the features."""
        return self.reference + self.total / self.count

    @property
    def covariance(self) -> Tensor:  # [D, D]
        """Unbiased covariance; needs at least two features."""
        if self.count < 2:
            raise ValueError(f"a covariance needs at least 2 images, but there are {self.count}")
        offset = self.total / self.count
        return (self.outer - self.count * torch.outer(offset, offset)) / (self.count - 1)

    @property
    def population_covariance(self) -> Tensor:  # [D, D]
        """Covariance divided by the count itself, as in StyleGAN's FID."""
        return self.covariance * ((self.count - 1) / self.count)

    def parts(self) -> list[Tensor]:
        """The sums as plain tensors.

        With the reference ``GaussianFit(int(count), total, outer, reference)``.
        """
        return [torch.tensor(self.count), self.total, self.outer]

    def merge(self, other: "GaussianFit") -> "GaussianFit":
        """Return the fit of both sets together; both must have the same reference."""
        if not torch.equal(self.reference, other.reference):
            raise ValueError("only fits that started from the same reference can be merged")
        return GaussianFit(
            self.count + other.count,
            self.total + other.total,
            self.outer + other.outer,
            self.reference,
        )


def frechet_distance(
    mean_a: Tensor,  # [D]
    covariance_a: Tensor,  # [D, D] symmetric, positive semi-definite
    mean_b: Tensor,
    covariance_b: Tensor,
) -> float:
    """Return |mean_a - mean_b|^2 + tr(A + B - 2 (A B)^(1/2)), computed in float64.

    tr (A B)^(1/2) is the sum of the roots of the eigenvalues of A^(1/2) B A^(1/2), which is
    symmetric: two symmetric eigenvalue problems, no general matrix root and no imaginary rounding
    errors.
    """
    a, b = covariance_a.double(), covariance_b.double()
    values, vectors = torch.linalg.eigh(a)
    root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    cross = root @ b @ root
    trace_root = torch.linalg.eigvalsh((cross + cross.T) / 2).clamp_min(0).sqrt().sum()
    gap = (mean_a.double() - mean_b.double()).square().sum()
    return float(gap + a.trace() + b.trace() - 2 * trace_root)


def distance(a: GaussianFit, b: GaussianFit, population: bool = False) -> float:
    """Fréchet distance between two fits.

    ``population``: with covariances divided by the counts themselves.
    """
    name = "population_covariance" if population else "covariance"
    return frechet_distance(a.mean, getattr(a, name), b.mean, getattr(b, name))

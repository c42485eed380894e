"""The camera of a face from its landmarks, in the convention of EG3D's FFHQ labels.

A crop of side ``size`` around ``center`` is taken to be the image of a camera with focal length
4.2647 sides and its principal point in the middle, which stands 2.7 units from the world origin and
looks at EG3D's face origin. That leaves six unknowns, the rotation, the center and the side, and
the landmarks determine them:

    minimize  sum_i rho(|(u_i - center) / size - p_i(R) - sum_k a_k m_ik|^2 / sd_i^2) + sum_k a_k^2

with the projections ``p`` of the model's mean points. What people and expressions change is in the
modes ``m`` of image displacements with their priors, so that it is neither noise nor free to
imitate a rotation: points that err together count as the few independent measurements that they
are. ``rho`` is Cauchy's loss; Gauss-Newton with analytic derivatives and reweighting.
"""

from dataclasses import dataclass

import numpy as np

from gghead.cameras import FFHQ_FOCAL, FFHQ_RADIUS
from gghead.data.photos.landmarks import LandmarkModel
from gghead.torch_utils.errors import UserError

# EG3D's face-model origin: (0, 0.006, 0.161) in 3dface2idr_mat.py
FACE_ORIGIN = np.array([0.0, 0.006, 0.161])
_ROBUST = 3.0  # standard deviations at which a point counts half
_FRONTAL = np.diag([1.0, -1.0, -1.0])


@dataclass(frozen=True, eq=False)
class PoseFit:
    """A fitted camera and the crop that goes with it."""

    # [3, 3] camera axes in the world (OpenCV: x right, y down, z forward), for an unturned crop
    rotation: np.ndarray
    center: np.ndarray  # [2] pixels of the photo
    size: float  # pixels of the photo
    # weighted RMS distance of the used points to the model with its modes, as a share of ``size``
    residual: float
    # RMS of the modes' amounts: about 1 for the faces the model was made from, 0 for its mean
    unusual: float
    steps: int


def camera_position(rotation: np.ndarray) -> np.ndarray:  # [3, 3] -> [3]
    """Return where a camera of this rotation stands.

    It is FFHQ_RADIUS from the world origin and looks at FACE_ORIGIN.
    """
    forward = rotation[:, 2]
    return FACE_ORIGIN - _distance(rotation)[0] * forward


def project(rotation: np.ndarray, points: np.ndarray) -> np.ndarray:  # [3, 3], [M, 3] -> [M, 2]
    """Return where the camera sees world points, as shares of the crop's side from its middle."""
    seen = (points - FACE_ORIGIN) @ rotation
    return FFHQ_FOCAL * seen[:, :2] / (seen[:, 2:] + _distance(rotation)[0])


# [N, 2] all points, pixels
def fit_pose(points: np.ndarray, model: LandmarkModel, max_steps: int = 40) -> PoseFit:
    """Fit the camera to the landmarks of one face.

    Raises:
        UserError: the points are not finite, or lie all in one place.
    """
    used = np.asarray(points, np.float64)[model.index]
    if not np.isfinite(used).all() or np.ptp(used, axis=0).max() < 1e-6:
        raise UserError("The landmarks of a face must be finite and must not all lie in one place.")
    mean, count = model.mean, len(model.mean)
    # In a frame that is upright and of the crop's size roughly: the modes are those of upright
    # faces.
    scale, turn, origin = _similarity(project(_FRONTAL, mean), used)
    target = (used - origin) @ turn / scale
    modes = model.modes.reshape(len(model.modes), -1).T  # [2M, K]
    rotation, shift, log_size = _FRONTAL, -project(_FRONTAL, mean).mean(0), 0.0
    amounts = np.zeros(modes.shape[1])
    prior = np.concatenate([np.zeros(6), np.ones(len(amounts))])
    # The first steps trust all points alike, so that a wrong start does not make good points
    # outliers.
    for step in range(max_steps):
        projected, slope = _project_with_slope(rotation, mean)
        size = np.exp(log_size)
        error = target - size * projected - shift - (modes @ amounts).reshape(count, 2)
        jacobian = np.zeros((count, 2, 6))
        jacobian[:, :, :3] = size * slope
        jacobian[:, 0, 3] = jacobian[:, 1, 4] = 1
        jacobian[:, :, 5] = size * projected
        weight = _weights(error, model.sd, step >= 3)
        root = np.repeat(np.sqrt(weight), 2)[:, None]
        system = np.concatenate([jacobian.reshape(2 * count, 6), modes], axis=1) * root
        normal = system.T @ system + np.diag(prior)
        gradient = system.T @ (error.reshape(-1) * root[:, 0]) - prior * np.concatenate(
            [np.zeros(6), amounts]
        )
        change = np.linalg.solve(normal, gradient)
        # at most 17 degrees a step
        change *= min(1.0, 0.3 / max(float(np.linalg.norm(change[:3])), 1e-12))
        rotation = rotation @ _exponential(change[:3])
        shift, log_size, amounts = shift + change[3:5], log_size + change[5], amounts + change[6:]
        if step > 3 and np.abs(change[:6]).max() < 1e-7:
            break
    size = float(np.exp(log_size))
    residual = float(np.sqrt((weight * (error**2).sum(1)).sum() / weight.sum())) / size
    upright = np.eye(3)
    upright[:2, :2] = turn.T
    unusual = float(np.sqrt((amounts**2).mean()))
    center = origin + scale * (turn @ shift)
    return PoseFit(
        _orthonormal(rotation @ upright), center, size * scale, residual, unusual, step + 1
    )


def _weights(error: np.ndarray, sd: np.ndarray, robust: bool) -> np.ndarray:  # [M, 2], [M] -> [M]
    """Inverse variances, reduced for outliers as Cauchy's loss does."""
    if not robust:
        return 1 / sd**2
    return 1 / (sd**2 * (1 + (error**2).sum(1) / (_ROBUST * sd) ** 2))


def _distance(rotation: np.ndarray) -> tuple[float, float]:
    """Distance from the face origin to the camera, and its derivative.

    The derivative is by the origin's height along the view axis.
    """
    along = float(FACE_ORIGIN @ rotation[:, 2])
    root = np.sqrt(along**2 - FACE_ORIGIN @ FACE_ORIGIN + FFHQ_RADIUS**2)
    return float(along + root), float(1 + along / root)


def _project_with_slope(rotation: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``project`` and its derivatives [M, 2, 3] by w in ``rotation @ exp([w]x)``."""
    distance, growth = _distance(rotation)
    x, y, z = ((points - FACE_ORIGIN) @ rotation).T
    gx, gy, _ = FACE_ORIGIN @ rotation
    depth = z + distance
    projected = FFHQ_FOCAL * np.stack([x, y], 1) / depth[:, None]
    zero = np.zeros_like(x)
    # d(seen) = seen x w, and the distance changes with the view axis.
    dx, dy = np.stack([zero, -z, y], 1), np.stack([z, zero, -x], 1)
    dz = np.stack([-y, x, zero], 1) + growth * np.array([-gy, gx, 0.0])
    slope = np.stack(
        [FFHQ_FOCAL * d - projected[:, i : i + 1] * dz for i, d in enumerate((dx, dy))], 1
    )
    return projected, slope / depth[:, None, None]


def _similarity(source: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The similarity that best maps a point set onto another.

    Returns scale, rotation [2, 2] and target center.
    """
    a = (source - source.mean(0)) @ [1, 1j]
    b = (target - target.mean(0)) @ [1, 1j]
    factor = np.vdot(a, b) / np.vdot(a, a).real
    scale = max(abs(factor), 1e-9)
    cos, sin = factor.real / scale, factor.imag / scale
    return float(scale), np.array([[cos, -sin], [sin, cos]]), target.mean(0)


def _exponential(vector: np.ndarray) -> np.ndarray:  # [3] -> [3, 3]
    """Rotation by the vector (Rodrigues)."""
    angle = float(np.linalg.norm(vector))
    x, y, z = vector
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    a = np.sinc(angle / np.pi)
    b = 0.5 * np.sinc(angle / (2 * np.pi)) ** 2
    return np.eye(3) + a * skew + b * skew @ skew


def _orthonormal(matrix: np.ndarray) -> np.ndarray:
    """The nearest rotation: takes the rounding of many products away."""
    u, _, v = np.linalg.svd(matrix)
    return u @ v

"""FLAME in our world.

Where its head lies, where its neck turns, and how a tracked pose moves the head.

The constants describe FLAME's mean head (the template of FLAME 2020 as MICA ships it): centers of
the eyeballs (±0.0316, 0.0214, 0.0239) m, tip of the nose (0, -0.0084, 0.0761), y up, face along +z.
GGHead's authors align the same head with EG3D's at a scale of 2.683.
"""

from pathlib import Path

import numpy as np
import torch

from gghead.data.files import FolderSource
from gghead.data.formats.geometry import METERS_PER_UNIT, Placement
from gghead.data.formats.parsing import ReadOptions, read_npz
from gghead.data.formats.safe_pickle import load_model
from gghead.rotations import axis_angle_to_matrix, matrix_to_axis_angle, rotation_6d_to_matrix
from gghead.torch_utils.errors import UserError

# Meters to units; then the shift that brings eyes, nose tip, mouth and chin of the mean head onto
# those of the mean head of mvheads (its README, "Coordinates"), the mean over the four: they
# disagree by ±0.015 units, which is what two mean heads differ by. A person differs more; that is
# identity, not error, and ``ReadOptions.offset`` corrects it.
FLAME_TO_WORLD = Placement(1 / METERS_PER_UNIT, np.eye(3), np.array([0.0, 0.027, 0.111]))
# Estimates by anatomy, ±3 cm: the base of the neck (root) and the top of the spine (neck). The true
# joints belong to the licensed model and depend on the shape; they are read from the user's own
# model file, where ``ReadOptions.flame`` names it.
ESTIMATED_JOINTS = np.array([[0.0, -0.18, -0.065], [0.0, -0.035, -0.05]])


def flame_placement(options: ReadOptions) -> Placement:
    """FLAME's head at rest to our world, or what the user gave instead."""
    return FLAME_TO_WORLD.with_options(options)


# shape [S] -> [2, 3], exact?
def neck_joints(options: ReadOptions, shape: np.ndarray) -> tuple[np.ndarray, bool]:
    """Root and neck joint of the head with shape coefficients ``shape``, in FLAME's frame (meters).

    From the user's model file: J_regressor (v_template + shapedirs shape). Raises ``UserError`` if
    it is no such file.
    """
    if options.flame is None:
        return ESTIMATED_JOINTS, False
    path = Path(options.flame)
    if not path.is_file():
        raise UserError(
            f"The FLAME model {path} does not exist; give FLAME's model file (generic_model.pkl or"
            " flame2023.pkl)."
        )
    is_npz = path.suffix == ".npz"
    model = (
        read_npz(FolderSource(path.parent), path.name)
        if is_npz
        else load_model(path.read_bytes(), str(path))
    )
    try:
        template, basis, regressor = (
            np.asarray(model[key], float) for key in ("v_template", "shapedirs", "J_regressor")
        )
        used = min(len(shape), 300, basis.shape[2])
        vertices = template + basis[:, :, :used] @ shape[:used]
        return (regressor @ vertices)[:2], True
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(
            f"{path} is no FLAME model: it lacks v_template, shapedirs or J_regressor, or"
            f" their sizes do not fit ({error})."
        ) from error


def head_motion(
    rotation: np.ndarray,  # [T, 3] axis times angle, of everything about the root joint
    translation: np.ndarray,  # [T, 3]
    neck: np.ndarray,  # [T, 3] axis times angle, of the head about the neck joint
    joints: np.ndarray,  # [2, 3] root and neck
) -> np.ndarray:  # [T, 4, 4]
    """The rigid motion of FLAME's head: x -> R (N (x - n) + n - r) + r + t.

    This is linear blend skinning (Loper et al. 2015).

    Neck and shoulders follow the root only, so that they move against the head at rest as they did
    in reality.
    """
    turn, nod = (
        axis_angle_to_matrix(torch.from_numpy(np.asarray(v, np.float64))).numpy()
        for v in (rotation, neck)
    )
    root, joint = joints
    motion = np.tile(np.eye(4), (len(turn), 1, 1))
    motion[:, :3, :3] = turn @ nod
    motion[:, :3, 3] = (
        (turn @ (joint - root - nod @ joint)[:, :, None])[:, :, 0] + root + translation
    )
    return motion


def estimate_note(motion: np.ndarray, where: str) -> tuple[str, ...]:
    """A sentence on what estimated joints cost, where the head turns at all."""
    relative = motion[:, :3, :3] @ motion[0, :3, :3].T
    angle = float(
        np.degrees(np.arccos(np.clip((np.trace(relative, axis1=1, axis2=2) - 1) / 2, -1, 1)).max())
    )
    if angle < 1:
        return ()
    return (
        (
            f"The head of {where} turns by up to {angle:.0f} degrees about neck joints that are"
            " estimated (±3 cm); give your FLAME model as `flame` for exact ones."
        ),
    )


# [T, 6 n] PyTorch3D's order -> [T, 3 n]
def rotation_6d_to_axis_angle(rows: np.ndarray) -> np.ndarray:
    """Rotations by their first two rows (PyTorch3D) to axis times angle, which is zero at rest."""
    values = torch.from_numpy(np.asarray(rows, np.float64)).unflatten(-1, (-1, 6))
    return matrix_to_axis_angle(rotation_6d_to_matrix(values).mT).flatten(-2).numpy()

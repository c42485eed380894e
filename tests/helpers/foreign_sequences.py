"""Small faithful examples of tracked sequences, each written from its format's own description of
axes and units."""

import json
from pathlib import Path

import numpy as np
import torch
from helpers.scene import (
    POINTS,
    Example,
    disc,
    look_at,
    motions,
    opengl_pose,
    photo,
    rotation_vector,
    save,
    see,
    turn,
)
from PIL import Image

FRAMES = 6
SIZE = (80, 64)
FOCAL = (150.0, 156.0)  # pixels are not square
CENTER = (41.5, 30.25)  # and the principal point is not in the middle


def vectors(count: int, width: int) -> np.ndarray:
    return np.random.RandomState(5).randn(count, width).astype(np.float32)


def tracked_camera(
    rotation: np.ndarray, shift: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A head that turns by ``rotation`` and sways by ``shift`` one meter before a still camera with
    OpenCV axes.

    Returns R, t of "x_camera = R x_head + t" and the pixels of the head's points.
    """
    # the camera looks at the face: its y is down, its z away from itself
    facing = np.diag([1.0, -1.0, -1.0])
    r = facing @ rotation
    t = facing @ shift + [0, 0, 1.0]
    seen = POINTS @ r.T + t
    return r, t, seen[:, :2] / seen[:, 2:] * FOCAL + CENTER


def insta(folder: Path) -> Example:
    frames, pixels, names = [], [], []
    exp = vectors(FRAMES, 100)
    for index, motion in enumerate(motions(FRAMES)):
        r, t, uv = tracked_camera(*motion)
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = r.T, -r.T @ t  # the camera as the head sees it
        names.append(f"images/{index:05d}.png")
        frames.append(
            {
                "transform_matrix": pose.tolist(),
                "file_path": names[-1],
                "mesh_path": f"meshes/{index:05d}.obj",
                "exp_path": f"flame/exp/{index:05d}.txt",
            }
        )
        rgba = photo(SIZE, uv).convert("RGBA")
        rgba.putalpha(disc(SIZE))
        save(rgba, folder / names[-1])
        (folder / "flame/exp").mkdir(parents=True, exist_ok=True)
        (folder / f"flame/exp/{index:05d}.txt").write_text(
            "\n".join(str(value) for value in exp[index])
        )
        pixels.append(uv)
    top = {
        "w": SIZE[0],
        "h": SIZE[1],
        "cx": CENTER[0],
        "cy": CENTER[1],
        "fl_x": FOCAL[0],
        "fl_y": FOCAL[1],
        "integer_depth_scale": 1 / 1000,
        "frames": frames,
    }
    (folder / "transforms.json").write_text(json.dumps(top))
    return Example(folder, POINTS, np.stack(pixels), names, SIZE, exp)


def write_frame(
    path: Path, r: np.ndarray, t: np.ndarray, exp: np.ndarray, jaw: np.ndarray, eyelids: np.ndarray
) -> None:
    """A metrical-tracker checkpoint as its save_checkpoint writes it: numpy arrays through
    torch.save."""

    def rows6(matrix):  # PyTorch3D: the first two rows
        return matrix[:2].reshape(1, 6).astype(np.float32)

    k = np.array([[FOCAL[0], 0, CENTER[0]], [0, FOCAL[1], CENTER[1]], [0, 0, 1]])
    content = {
        "flame": {
            "exp": exp[None],
            "shape": np.zeros((1, 300), np.float32),
            "jaw": rows6(jaw),
            "eyelids": eyelids[None],
            "eyes": np.concatenate([rows6(np.eye(3)), rows6(np.eye(3))], axis=1),
        },
        "camera": {
            "R": rows6(r),
            "t": t[None].astype(np.float32),
            "fl": np.ones((1, 1)),
            "pp": np.zeros((1, 2)),
        },
        "opencv": {"R": r[None], "t": t[None], "K": k[None]},
        "img_size": np.array([SIZE[1], SIZE[0]]),
        "frame_id": path.stem,
        "global_step": 7,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(content, path)


def metrical(
    folder: Path,
    checkpoint: str = "checkpoint",
    image: str = "images/{:05d}.png",
    start: int = 0,
    mask: str | None = None,
) -> Example:
    exp, eyelids = vectors(FRAMES, 100), vectors(FRAMES, 2)
    pixels, names, jaws = [], [], []
    for index, motion in enumerate(motions(FRAMES)):
        r, t, uv = tracked_camera(*motion)
        jaw = turn(pitch=3.0 * index)
        jaws.append(rotation_vector(jaw))
        write_frame(
            folder / checkpoint / f"{index:05d}.frame", r, t, exp[index], jaw, eyelids[index]
        )
        names.append(image.format(index + start))
        save(photo(SIZE, uv), folder / names[-1])
        if mask is not None:
            save(disc(SIZE), folder / mask.format(index + start))
        pixels.append(uv)
    extras = {"jaw": np.stack(jaws), "eyelids": eyelids, "eyes": np.zeros((FRAMES, 6))}
    return Example(folder, POINTS, np.stack(pixels), names, SIZE, exp, extras)


def flashavatar(folder: Path) -> Example:
    """The images count from 1, the tracker's frames from 0."""
    return metrical(
        folder,
        "metrical-tracker/output/ana/checkpoint",
        "dataset/ana/imgs/{:05d}.jpg",
        1,
        "dataset/ana/alpha/{:05d}.jpg",
    )


def nerfblendshape(folder: Path) -> Example:
    """NeRF's axes: the camera moves around a head at rest, its z pointing backward."""
    frames, pixels, names = [], [], []
    exp = vectors(FRAMES, 46)
    for index in range(FRAMES):
        position = turn(8.0 * index - 20, 3.0 * index) @ np.array([0.01, 0.02, 0.9])
        axes = look_at(position, np.array([0.0, 0.01, 0.0]), roll=2.0 * index)
        uv = see(POINTS, position, axes, *FOCAL, *CENTER)
        names.append(f"head_imgs/{index + 3}.jpg")
        frames.append(
            {
                "img_id": index + 3,
                "transform_matrix": opengl_pose(position, axes).tolist(),
                "exp_ori": exp[index].tolist(),
            }
        )
        save(photo(SIZE, uv), folder / names[-1])
        labels = Image.new("RGB", SIZE, (255, 0, 0))
        labels.paste((0, 0, 255), (20, 10, 60, 50))
        save(labels, folder / f"parsing/{index + 3}.png")
        pixels.append(uv)
    top = {
        "h": SIZE[1],
        "w": SIZE[0],
        "fx": FOCAL[0],
        "fy": FOCAL[1],
        "cx": CENTER[0],
        "cy": CENTER[1],
    }
    # the loader sorts, too
    (folder / "transforms.json").write_text(json.dumps({**top, "frames": frames[::-1]}))
    return Example(folder, POINTS, np.stack(pixels), names, SIZE, exp)


def flame_model(path: Path, shape: np.ndarray) -> np.ndarray:
    """A toy FLAME model file; returns its root and neck joint for ``shape`` [2, 3]."""
    random = np.random.RandomState(1)
    template = random.randn(7, 3) * 0.05
    basis = random.randn(7, 3, 300) * 0.001
    regressor = np.zeros((5, 7))
    regressor[0, [0, 1]], regressor[1, [2, 5]] = (0.25, 0.75), (0.5, 0.5)
    np.savez(path, v_template=template, shapedirs=basis, J_regressor=regressor)
    shaped = template + (basis[:, :, : len(shape)] * shape).sum(-1)
    return np.stack([0.25 * shaped[0] + 0.75 * shaped[1], 0.5 * shaped[2] + 0.5 * shaped[5]])


def posed(points: np.ndarray, root: np.ndarray, neck: np.ndarray, joints: np.ndarray) -> np.ndarray:
    """FLAME's head by its kinematic tree: first the neck turns about its joint, then everything
    about the root."""
    nodded = (points - joints[1]) @ neck.T + joints[1]
    return (nodded - joints[0]) @ root.T + joints[0]


def imavatar(folder: Path) -> Example:
    """Two clips of a head four times life size, posed in FLAME, before a camera that never
    turns."""
    shape = np.random.RandomState(2).randn(100)
    joints = flame_model(folder / "flame.npz", shape)
    exp, pixels, names = vectors(FRAMES, 50), [], []
    fx, fy, cx, cy = -1.9, 2.1, 0.49, 0.52
    neck_vectors, at = [], 0
    for clip, count in (("MVI_1810", 4), ("MVI_1812", 2)):
        frames = []
        for number in range(1, count + 1):
            rotation, neck = motions(FRAMES)[at][0], turn(4.0 * at - 6, 2.0 * at)
            neck_vectors.append(rotation_vector(neck))
            pose = np.concatenate(
                [rotation_vector(rotation), neck_vectors[-1], [0.1 * at, 0, 0], np.zeros(6)]
            )
            shift = np.array([0.05, -0.1, -4.0])
            # the camera: x right, y up, the head at z < 0
            p = 4 * posed(POINTS, rotation, neck, joints) + shift
            uv = np.stack([cx + fx * p[:, 0] / p[:, 2], cy + fy * p[:, 1] / p[:, 2]], -1) * SIZE
            world = np.concatenate([np.eye(3), shift[:, None]], axis=1)
            frames.append(
                {
                    "file_path": f"./image/{number}",
                    "world_mat": world.tolist(),
                    "pose": pose.tolist(),
                    "expression": exp[at].tolist(),
                    "bbox": [0, 0, 1, 1],
                }
            )
            names.append(f"{clip}/image/{number}.png")
            save(photo(SIZE, uv), folder / names[-1])
            save(disc(SIZE), folder / f"{clip}/mask/{number}.png")
            pixels.append(uv)
            at += 1
        content = {"intrinsics": [fx, fy, cx, cy], "shape_params": shape.tolist(), "frames": frames}
        (folder / clip / "flame_params.json").write_text(json.dumps(content))
    return Example(
        folder, POINTS, np.stack(pixels), names, SIZE, exp, {"neck": np.stack(neck_vectors)}
    )


def vhap(folder: Path) -> Example:
    """Two still cameras with OpenGL axes; FLAME turns about its root and neck and is shifted."""
    shape = np.random.RandomState(3).randn(300)
    joints = flame_model(folder / "flame.npz", shape)
    exp, pixels, names, frames, kept = vectors(FRAMES, 100), [], [], [], []
    (folder / "flame_param").mkdir()
    for step, (rotation, shift) in enumerate(motions(FRAMES)):
        neck = turn(3.0 * step, -2.0 * step)
        world = posed(POINTS, rotation, neck, joints) + shift
        np.savez(
            folder / f"flame_param/{step:05d}.npz",
            rotation=rotation_vector(rotation)[None],
            translation=shift[None],
            neck_pose=rotation_vector(neck)[None],
            jaw_pose=np.full((1, 3), 0.1 * step),
            eyes_pose=np.zeros((1, 6)),
            shape=shape,
            expr=exp[step][None],
        )
        for camera, position in enumerate((np.array([0.1, 0.05, 1.0]), np.array([-0.6, 0.1, 0.8]))):
            axes = look_at(position, np.array([0.0, 0.0, 0.0]), roll=3.0)
            uv = see(world, position, axes, *FOCAL, *CENTER)
            name = f"images/{step:05d}_{camera:02d}.png"
            frames.append(
                {
                    "timestep_index": step,
                    "timestep_index_original": step,
                    "timestep_id": f"{step:05d}",
                    "camera_index": camera,
                    "camera_id": str(camera),
                    "cx": CENTER[0],
                    "cy": CENTER[1],
                    "fl_x": FOCAL[0],
                    "fl_y": FOCAL[1],
                    "h": SIZE[1],
                    "w": SIZE[0],
                    "transform_matrix": opengl_pose(position, axes).tolist(),
                    "file_path": name,
                    "fg_mask_path": f"fg_masks/{step:05d}_{camera:02d}.png",
                    "flame_param_path": f"flame_param/{step:05d}.npz",
                }
            )
            save(photo(SIZE, uv), folder / name)
            save(disc(SIZE), folder / frames[-1]["fg_mask_path"])
            names.append(name)
            pixels.append(uv)
            kept.append(exp[step])
    early = [frame for frame in frames if frame["timestep_index"] < 4]
    for split, chosen in (
        ("train", [f for f in early if f["camera_index"] == 0]),
        ("val", [f for f in early if f["camera_index"] == 1]),
        ("test", [f for f in frames if f["timestep_index"] >= 4]),
    ):
        (folder / f"transforms_{split}.json").write_text(json.dumps({"frames": chosen}))
    (folder / "transforms.json").write_text(json.dumps({"frames": frames}))
    return Example(folder, POINTS, np.stack(pixels), names, SIZE, np.stack(kept))

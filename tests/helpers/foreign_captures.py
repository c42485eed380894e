"""Small faithful examples of multi-view captures, each written from its format's own description of
axes and units."""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from helpers.foreign_sequences import flame_model
from helpers.scene import (
    POINTS,
    Example,
    disc,
    look_at,
    motions,
    opencv_extrinsics,
    opengl_pose,
    photo,
    save,
    see,
    turn,
)

SIZE = (96, 128)
FOCAL = (210.0, 204.0)
CENTER = (47.0, 66.5)
# An arbitrary frame: our head stands somewhere, turned and scaled.
SCALE, TURN, SHIFT = 3.7, turn(35, -20, 15), np.array([1.0, -2.0, 0.5])


def ring(count: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Position and target of cameras before a face (meters)."""
    return [
        (
            turn(50 * (i / (count - 1) - 0.5) * 2, 12 * np.sin(2.0 * i))
            @ np.array([0, 0.0, 1.0 + 0.05 * (i % 2)]),
            np.array([0.01 * np.sin(i), 0.005 * np.cos(i), 0.0]),
        )
        for i in range(count)
    ]


def elsewhere(points: np.ndarray) -> np.ndarray:
    """The arbitrary frame of a reconstruction."""
    return SCALE * points @ TURN.T + SHIFT


def moved_axes(axes: tuple) -> tuple:
    return tuple(TURN @ axis for axis in axes)


def nerfstudio(folder: Path, **top) -> Example:
    frames, pixels, names = [], [], []
    for index, (position, target) in enumerate(ring(6)):
        axes = look_at(position, target, roll=4.0 * index)
        uv = see(POINTS, position, axes, *FOCAL, *CENTER)
        names.append(f"images/frame_{index + 1:05d}.png")
        frames.append(
            {
                "file_path": f"./{names[-1]}",
                "transform_matrix": opengl_pose(elsewhere(position), moved_axes(axes)).tolist(),
            }
        )
        save(photo(SIZE, uv), folder / names[-1])
        pixels.append(uv)
    shared = {
        "camera_model": "OPENCV",
        "fl_x": FOCAL[0],
        "fl_y": FOCAL[1],
        "cx": CENTER[0],
        "cy": CENTER[1],
        "w": SIZE[0],
        "h": SIZE[1],
        "k1": 0.0,
        "k2": 0.0,
        "p1": 0.0,
        "p2": 0.0,
    }
    (folder / "transforms.json").write_text(json.dumps({**shared, **top, "frames": frames}))
    return Example(folder, elsewhere(POINTS), np.stack(pixels), names, SIZE)


def facelift(folder: Path) -> Example:
    frames, pixels, names = [], [], []
    for index, (position, target) in enumerate(ring(5)):
        axes = look_at(position, target)
        uv = see(POINTS, position, axes, *FOCAL, *CENTER)
        names.append(f"{index:03d}.png")
        w2c = opencv_extrinsics(elsewhere(position), moved_axes(axes))
        frames.append(
            {
                "w": SIZE[0],
                "h": SIZE[1],
                "fx": FOCAL[0],
                "fy": FOCAL[1],
                "cx": CENTER[0],
                "cy": CENTER[1],
                "w2c": w2c.tolist(),
                "file_path": names[-1],
            }
        )
        save(photo(SIZE, uv), folder / names[-1])
        pixels.append(uv)
    (folder / "opencv_cameras.json").write_text(json.dumps({"id": "head7", "frames": frames}))
    return Example(folder, elsewhere(POINTS), np.stack(pixels), names, SIZE)


def bent(uv: np.ndarray, k1: float, k2: float, p1: float, p2: float, k3: float) -> np.ndarray:
    """OpenCV's distortion of pixels, term by term as its documentation writes it."""
    x, y = (uv[:, 0] - CENTER[0]) / FOCAL[0], (uv[:, 1] - CENTER[1]) / FOCAL[1]
    r = np.sqrt(x**2 + y**2)
    radial = 1 + k1 * r**2 + k2 * r**4 + k3 * r**6
    x2 = x * radial + 2 * p1 * x * y + p2 * (r**2 + 2 * x**2)
    y2 = y * radial + p1 * (r**2 + 2 * y**2) + 2 * p2 * x * y
    return np.stack([x2 * FOCAL[0] + CENTER[0], y2 * FOCAL[1] + CENTER[1]], axis=-1)


def facescape(folder: Path, distortion=(0.0, 0.0, 0.0, 0.0, 0.0)) -> Example:
    """One tuple; K counts pixels from pixel centers, so its principal point is half a pixel
    less."""
    content, pixels, names = {}, [], []
    base = folder / "12" / "2_smile"
    for index, (position, target) in enumerate(ring(5)):
        axes = look_at(position, target)
        uv = see(POINTS, position, axes, *FOCAL, *CENTER)
        k = [[FOCAL[0], 0, CENTER[0] - 0.5], [0, FOCAL[1], CENTER[1] - 0.5], [0, 0, 1]]
        content |= {
            f"{index}_K": k,
            f"{index}_Rt": opencv_extrinsics(elsewhere(position), moved_axes(axes))[:3].tolist(),
            f"{index}_distortion": list(distortion),
            f"{index}_width": SIZE[0],
            f"{index}_height": SIZE[1],
            f"{index}_matches": 900,
            f"{index}_valid": index != 3,
            f"{index}_sn": "x",
            f"{index}_ori": "y.jpg",
        }
        save(photo(SIZE, bent(uv, *distortion)), base / f"{index}.jpg")
        if index != 3:
            names.append(f"12/2_smile/{index}.jpg")
            pixels.append(uv)
    (base / "params.json").write_text(json.dumps(content))
    return Example(folder, elsewhere(POINTS), np.stack(pixels), names, SIZE)


def ava256(folder: Path) -> Example:
    """Millimeters, transposed matrices, a head that moves in the rig; images a 32nd of 2668x4096
    in zips."""
    full, size = (2668, 4096), (667 // 8, 1024 // 8)
    size = (83, 128)
    decoder = folder / "20210810--1306--ABC123" / "decoder"
    (decoder / "image").mkdir(parents=True)
    (decoder / "head_pose").mkdir()
    focal, center = (5800.0, 5790.0), (1310.0, 2075.0)  # from pixel centers
    rigs = [(1000 * position, 1000 * target) for position, target in ring(4)]
    krt, poses = [], motions(3)
    images: dict[str, dict[str, bytes]] = {}
    pixels, names = [], []
    with zipfile.ZipFile(decoder / "head_pose" / "head_pose.zip", "w") as archive:
        for step, (rotation, shift) in enumerate(poses):
            text = "\n".join(
                " ".join(map(str, [*row, 1000 * s])) for row, s in zip(rotation, shift, strict=True)
            )
            archive.writestr(f"{100 + step:06d}.txt", text)
    for camera, (position, target) in enumerate(rigs):
        axes = look_at(position, target)
        k = np.array([[focal[0], 0, center[0]], [0, focal[1], center[1]], [0, 0, 1]])
        krt.append(
            {
                "cameraId": f"40{camera}",
                "K": k.T.tolist(),
                "distortion": [0, 0, 0, 0],
                "T": opencv_extrinsics(position, axes).T.tolist(),
            }
        )
        for step, (rotation, shift) in enumerate(poses):
            world = 1000 * (POINTS @ rotation.T + shift)
            uv = (see(world, position, axes, *focal, *center) + 0.5) / full * size
            buffer = BytesIO()
            photo(size, uv).save(buffer, "avif", quality=90)
            name = f"cam40{camera}/{100 + step:06d}.avif"
            images.setdefault(f"cam40{camera}.zip", {})[name] = buffer.getvalue()
            names.append(f"20210810--1306--ABC123/decoder/image/cam40{camera}.zip/{name}")
            pixels.append(uv)
    for file, members in images.items():
        with zipfile.ZipFile(decoder / "image" / file, "w") as archive:
            for name, data in members.items():
                archive.writestr(name, data)
    (decoder / "camera_calibration.json").write_text(json.dumps({"KRT": krt}))
    segments = ("EXP_neutral_peak", "EXP_smile", "EXP_smile")
    rows = "\n".join(f"{segment},{100 + step}" for step, segment in enumerate(segments))
    (decoder / "frame_list.csv").write_text(f"seg_id,frame_id\n{rows}\n")
    return Example(folder, 1000 * POINTS, np.stack(pixels), names, size)


def nersemble(folder: Path, tracked: bool) -> Example:
    """Extracted images under VHAP's names. With tracking: the benchmark's intrinsics per camera
    and FLAME poses."""
    person = folder / "037"
    sequence = person / "sequences" / "EXP-2-eyes"
    scale, size = 1.08, SIZE
    shape = np.random.RandomState(4).randn(300)
    joints = flame_model(folder / "flame.npz", shape)
    necks = np.random.RandomState(6).randn(3, 3) * 0.1
    poses, exp = motions(3), np.random.RandomState(7).randn(3, 100).astype(np.float32)
    serials = ["222200037", "222200046", "220700191"]
    world_2_cam, pixels, names, kept = {}, [], [], []
    for serial, (position, target) in zip(serials, ring(3), strict=True):
        axes = look_at(position, target)
        world_2_cam[serial] = opencv_extrinsics(position, axes).tolist()
        for step, (rotation, shift) in enumerate(poses):
            world = POINTS
            if tracked:
                angle = np.linalg.norm(necks[step])  # Rodrigues' formula for the neck
                a, b, c = necks[step] / angle
                cross = np.array([[0, -c, b], [c, 0, -a], [-b, a, 0]])
                neck = np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross
                nodded = (POINTS - joints[1]) @ neck.T + joints[1]
                world = scale * nodded @ rotation.T + shift
            uv = see(world, position, axes, *FOCAL, *CENTER)
            name = f"037/sequences/EXP-2-eyes/images/cam_{serial}_{step + 1:05d}.png"
            save(photo(size, uv), folder / name)
            save(disc(size), sequence / "alpha_maps" / f"cam_{serial}_{step + 1:05d}.png")
            names.append(name)
            pixels.append(uv)
            kept.append(exp[step])
    k = [[FOCAL[0], 0, CENTER[0]], [0, FOCAL[1], CENTER[1]], [0, 0, 1]]
    content = {
        "world_2_cam": world_2_cam,
        "intrinsics": {serial: k for serial in serials} if tracked else k,
    }
    if not tracked:
        content |= {"width": size[0], "height": size[1]}
    (person / "calibration").mkdir()
    (person / "calibration" / "camera_params.json").write_text(json.dumps(content))
    (person / "calibration" / "color_calibration.json").write_text("{}")
    if tracked:
        (sequence / "tracking").mkdir()
        np.savez(
            sequence / "tracking" / "flame2023_tracking_v2.npz",
            shape=shape[None],
            expression=exp,
            rotation=np.zeros((3, 3)),
            rotation_matrices=np.stack([r for r, _ in poses]),
            translation=np.stack([t for _, t in poses]),
            jaw=np.zeros((3, 3)),
            frames=np.arange(1, 4),
            scale=np.array([[scale]]),
            neck=necks,
            eyes=np.zeros((3, 6)),
        )
    return Example(
        folder, POINTS, np.stack(pixels), names, size, np.stack(kept) if tracked else None
    )

"""Making the landmark model (``gghead/weights/landmark_model.npz``) from images:

    python research/calibrate_landmarks.py --mvheads=CAPTURES --photos=PHOTOS --skip=TEST-PHOTOS \
        --dest=gghead/weights/landmark_model.npz

1. MediaPipe's points are found in renders of ICT-FaceKit heads by known cameras (subjects below 80,
   views within 40 degrees of yaw) and triangulated over all of them: a mean place per point that
   fits what the detector says.
2. Photos show other faces than the renders (they smile, for one). Poses are fitted to photos
   without any label, the points are triangulated again from those, and the result is moved back
   onto the first by a similarity, so that photos change the shape but not the frame. The model's
   mean is the mean of both shapes.
3. Residuals in the renders at the true cameras give the modes and the rest of each point.

``--evaluate`` then prints how well the model's cameras agree with the known ones of the other
subjects' renders.

The 68 iBUG points have no detector here: their places are known on the heads, so step 1 is exact,
step 2 is left out, and a detector's noise of one percent of the crop is added.
"""

import sys
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
import numpy as np
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the checkout, from any folder

from gghead.cameras import FFHQ_FOCAL
from gghead.data.dataset_zip import DATASET_JSON, DatasetInfo
from gghead.data.images import decode_image
from gghead.data.photos.crop import Crop
from gghead.data.photos.landmarks import SCHEMES, LandmarkModel, mirror_index, save_models
from gghead.data.photos.photo import camera_degrees
from gghead.data.photos.pose import FACE_ORIGIN, camera_position, fit_pose, project
from gghead.torch_utils import cli
from gghead.torch_utils.errors import UserError

TRAINING_SUBJECTS = 80  # mvheads' subjects from here on are for tests
_MODES = 40
_FLOOR = 1.0  # added to each point's own variance, in units of the mean variance of all points
# points that stray further from one place on one head (share of the crop, mean) are not used
_SLIDING = 0.0135
_NARROW = 0.12  # world units from the midline: what lies further out is hidden in half the views
_IBUG_NOISE = 0.01
_IBUG_MIRROR = [
    *range(16, -1, -1),
    *range(26, 16, -1),
    *range(27, 31),
    *range(35, 30, -1),
    45,
    44,
    43,
    42,
    47,
    46,
    39,
    38,
    37,
    36,
    41,
    40,
    *range(54, 47, -1),
    *range(59, 54, -1),
    *range(64, 59, -1),
    67,
    66,
    65,
]


@dataclass(frozen=True, eq=False)
class Views:
    """Images with their points and the crop cameras that see them."""

    points: np.ndarray  # [V, N, 2] as shares of the crop's side from its middle
    rotation: np.ndarray  # [V, 3, 3]


def crop_view(
    points: np.ndarray, cam2world: np.ndarray, focal: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return what ``fit_pose`` should find in an image of a camera 2.7 units from the origin that
    looks elsewhere.

    ``points`` [N, 2] are divided by the image's size (principal point 0.5); the result is their
    place in the crop around the face origin, and the rotation of the camera turned, by the shortest
    way, to look there.
    """
    rotation, position = cam2world[:3, :3], cam2world[:3, 3]
    seen = rotation.T @ (FACE_ORIGIN - position)
    middle = focal * seen[:2] / seen[2]
    forward = (FACE_ORIGIN - position) / np.linalg.norm(FACE_ORIGIN - position)
    axis = np.cross(rotation[:, 2], forward)
    skew = np.array([[0, -axis[2], axis[1]], [axis[2], 0, -axis[0]], [-axis[1], axis[0], 0]])
    turn = np.eye(3) + skew + skew @ skew / (1 + rotation[:, 2] @ forward)
    return (points - 0.5 - middle) * (FFHQ_FOCAL / focal), turn @ rotation


def triangulate(views: Views) -> tuple[np.ndarray, np.ndarray]:
    """Return (places [N, 3], RMS distance [N] in crop sides) that agree best with all views (linear
    least squares)."""
    rays = views.points / FFHQ_FOCAL
    axes = views.rotation[:, None]  # [V, 1, 3, 3]
    # [V, N, 3, 2]: planes through camera and point
    rows = axes[..., :2] - rays[..., None, :] * axes[..., 2:]
    positions = np.stack([camera_position(rotation) for rotation in views.rotation])
    offsets = np.einsum("vnck,vc->vnk", rows, positions)
    normal = np.einsum("vnck,vndk->ncd", rows, rows)
    places = np.linalg.solve(normal, np.einsum("vnck,vnk->nc", rows, offsets)[..., None])[..., 0]
    seen = np.stack([project(rotation, places) for rotation in views.rotation])
    return places, np.sqrt(((seen - views.points) ** 2).sum(-1).mean(0))


def symmetric(places: np.ndarray, mirror: np.ndarray) -> np.ndarray:  # [N, 3]
    """Average a shape with its mirror image."""
    return (places + places[mirror] * [-1, 1, 1]) / 2


def onto(places: np.ndarray, target: np.ndarray, index: np.ndarray) -> np.ndarray:  # [N, 3]
    """Move a shape onto another by the similarity that fits best at ``index`` (Umeyama 1991)."""
    a, b = places[index] - places[index].mean(0), target[index] - target[index].mean(0)
    u, s, v = np.linalg.svd(b.T @ a)
    flip = np.array([1, 1, np.sign(np.linalg.det(u @ v))])
    rotation = u @ np.diag(flip) @ v
    scale = (s * flip).sum() / (a**2).sum()
    return (places - places[index].mean(0)) @ (scale * rotation).T + target[index].mean(0)


def statistics(
    scheme: str,
    index: np.ndarray,
    mean: np.ndarray,
    views: Views,
    mirror: np.ndarray,
    noise: float = 0.0,
) -> LandmarkModel:
    """Return the model with the modes of ``views``' residuals about ``mean`` [N, 3] and their
    mirror images."""
    seen = np.stack([project(rotation, mean) for rotation in views.rotation])
    residuals = views.points - seen
    mirrored = residuals[:, mirror] * [-1, 1]
    both = np.concatenate([residuals[:, index], mirrored[:, index]]).reshape(2 * len(residuals), -1)
    covariance = both.T @ both / len(both)
    values, vectors = np.linalg.eigh(covariance)
    modes = (vectors[:, ::-1][:, :_MODES] * np.sqrt(np.maximum(values[::-1][:_MODES], 0))).T
    # eigenvectors have no sign
    modes *= np.sign(modes[np.arange(_MODES), np.abs(modes).argmax(1)])[:, None]
    rest = np.maximum(np.diag(covariance) - (modes**2).sum(0), 0).reshape(-1, 2).mean(1)
    sd = np.sqrt(rest + _FLOOR * np.diag(covariance).mean() + noise**2)
    return LandmarkModel(scheme, index, mean[index], modes.reshape(_MODES, -1, 2), sd)


def refine(
    model: LandmarkModel, mean: np.ndarray, photos: list[np.ndarray], mirror: np.ndarray
) -> np.ndarray:
    """Return the mean shape [N, 3] of photos without labels (step 2 of the module's docstring)."""
    shape = mean
    # more rounds drift: depth and the range of the poses trade against each other
    for _ in range(2):
        model = LandmarkModel(model.scheme, model.index, shape[model.index], model.modes, model.sd)
        fits = [fit_pose(points, model) for points in photos]
        crops = [(points - fit.center) / fit.size for points, fit in zip(photos, fits, strict=True)]
        views = Views(np.stack(crops), np.stack([fit.rotation for fit in fits]))
        shape = onto(symmetric(triangulate(views)[0], mirror), mean, model.index)
    return shape


# heads: [V] equal where the head is the same -> [N]
def sliding(views: Views, heads: np.ndarray) -> np.ndarray:
    """Return how far each point strays from one place on a head as the camera moves, the mean over
    heads."""
    strays = []
    for head in np.unique(heads):
        chosen = np.flatnonzero(heads == head)
        if len(chosen) >= 5:  # fewer views do not tell
            strays.append(triangulate(Views(views.points[chosen], views.rotation[chosen]))[1])
    return np.mean(strays, axis=0)


def mediapipe_model(
    views: Views, heads: np.ndarray, photos: list[np.ndarray], mirror: np.ndarray
) -> LandmarkModel:
    """Steps 1 to 3 for MediaPipe's points; ``heads`` [V] numbers the head of each view."""
    mean, stray = symmetric(triangulate(views)[0], mirror), sliding(views, heads)
    stray = np.maximum(stray, stray[mirror])
    face = np.arange(len(mean)) < 468  # beyond are the irises, which follow the gaze
    index = np.flatnonzero(face & (stray < _SLIDING) & (np.abs(mean[:, 0]) < _NARROW))
    first = statistics("mediapipe478", index, mean, views, mirror)
    mean = (mean + refine(first, mean, photos, mirror)) / 2
    return statistics("mediapipe478", index, mean, views, mirror)


def mirror_from_images(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Return the index of every point's mirror image from points [N, 2] of images and of the
    flipped images, both divided by the images' size."""
    from scipy.optimize import linear_sum_assignment

    distance = sum(((a[:, None] - (b * [-1, 1] + [1, 0])[None]) ** 2).sum(-1) for a, b in pairs)
    return linear_sum_assignment(distance + distance.T)[1]


def load_mvheads(
    folder: Path,
    find: Callable[[np.ndarray, str], np.ndarray | None],
    subjects: range,
    yaw: float = 40.0,  # degrees to either side
    step: int = 1,
) -> tuple[Views, list[dict]]:
    """Return the views of mvheads in which ``find(rgb, name)`` sees a face (points in pixels), and
    their records."""
    points, rotations, records = [], [], []
    with zipfile.ZipFile(folder / "mvheads.zip") as archive:
        frames = DatasetInfo.parse(archive.read(DATASET_JSON), folder).entries
        frames = [
            frame for frame in frames if frame["subject"] in subjects and abs(_yaw(frame)) < yaw
        ][::step]
        for frame in frames:
            image = np.asarray(decode_image(archive.read(frame["file"]), "RGB", frame["file"]))
            found = find(image, frame["file"])
            if found is None:
                continue
            focal = frame["intrinsics"][0][0]
            view, rotation = crop_view(found / image.shape[0], np.array(frame["cam2world"]), focal)
            points.append(view)
            rotations.append(rotation)
            records.append(frame)
    return Views(np.stack(points), np.stack(rotations)), records


def _yaw(frame: dict) -> float:
    return float(np.degrees(np.arctan2(frame["cam2world"][0][3], frame["cam2world"][2][3])))


def ibug_model(folder: Path) -> LandmarkModel:
    """The model of the 68 iBUG points from mvheads' stored landmarks; the 17 of the jaw line are
    not used."""
    with np.load(folder / "geometry.npz") as file:
        marks = dict(
            zip(file["subject"].tolist(), file["landmarks68"].astype(np.float64), strict=True)
        )
    points, rotations = [], []
    with zipfile.ZipFile(folder / "mvheads.zip") as archive:
        frames = DatasetInfo.parse(archive.read(DATASET_JSON), folder).entries
    for frame in frames:
        if frame["subject"] < TRAINING_SUBJECTS and abs(_yaw(frame)) < 40:
            pose, focal = np.array(frame["cam2world"]), frame["intrinsics"][0][0]
            seen = (marks[frame["subject"]][frame["expression_id"]] - pose[:3, 3]) @ pose[:3, :3]
            view, rotation = crop_view(focal * seen[:, :2] / seen[:, 2:] + 0.5, pose, focal)
            points.append(view)
            rotations.append(rotation)
    views = Views(np.stack(points), np.stack(rotations))
    mirror = np.array(_IBUG_MIRROR)
    mean = symmetric(triangulate(views)[0], mirror)
    return statistics("ibug68", np.arange(17, SCHEMES["ibug68"]), mean, views, mirror, _IBUG_NOISE)


# [V, 3, 3] rotations each
def accuracy(truth: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
    """Compare cameras with the known ones.

    Returns ``slope`` [2] of found over true yaw and pitch, ``mean`` and ``sd`` [3] of the errors in
    yaw, pitch and roll (degrees), ``position`` [3] RMS of the camera's place (world units),
    ``turn`` [2] median and 95th percentile of the angle between the rotations (degrees).
    """
    unit = Crop(np.zeros(2), 1.0)
    true_angles, angles = (
        np.stack([camera_degrees(unit.label(r)) for r in x]) for x in (truth, found)
    )
    errors = angles - true_angles
    places = np.stack(
        [camera_position(a) - camera_position(b) for a, b in zip(truth, found, strict=True)]
    )
    cosines = (np.einsum("vij,vij->v", truth, found) - 1) / 2
    return {
        "slope": np.array([np.polyfit(true_angles[:, i], angles[:, i], 1)[0] for i in (0, 1)]),
        "mean": errors.mean(0),
        "sd": errors.std(0),
        "position": np.sqrt((places**2).mean(0)),
        "turn": np.percentile(np.degrees(np.arccos(np.clip(cosines, -1, 1))), [50, 95]),
    }


@cli.command()
@click.option(
    "--mvheads",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of mvheads.zip.",
)
@click.option(
    "--photos",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of photos (.jpg).",
)
@click.option(
    "--skip",
    type=click.Path(path_type=Path),
    help="Folder whose file names are left out.",
)
@click.option("--dest", type=click.Path(path_type=Path), required=True, help="The .npz to write.")
@cli.switch(
    "--find-mirror", default=False, help="Find the mirrored points anew  [default: keep them]"
)
@cli.switch("--evaluate", default=False, help="Test it on the other subjects, |yaw| < 35 degrees")
def main(
    mvheads: Path, photos: Path, skip: Path | None, dest: Path, find_mirror: bool, evaluate: bool
) -> None:
    """Make the landmark model; needs mediapipe and takes some minutes."""
    cli.check_writable(dest, "--dest")
    for option, path in (
        ("--mvheads", mvheads / "mvheads.zip"),
        ("--mvheads", mvheads / "geometry.npz"),
        ("--photos", photos),
        ("--skip", skip),
    ):
        if path is not None and not path.exists():
            raise UserError(f"{option} needs {path}, which does not exist; name another folder.")
    from gghead.data.photos.mediapipe_faces import MediapipeLandmarks

    left_out = {path.name for path in skip.iterdir()} if skip else set()
    names = [path for path in sorted(photos.glob("*.jpg")) if path.name not in left_out]
    if find_mirror:
        plain, pairs = MediapipeLandmarks(flips=(False,)), []
        for path in names[:150]:
            image = np.asarray(Image.open(path, formats=("JPEG",)).convert("RGB"))
            both = [
                plain.faces(np.ascontiguousarray(x), path.name, False)
                for x in (image, image[:, ::-1])
            ]
            if all(both):
                pairs.append(tuple(faces[0].points / image.shape[1::-1] for faces in both))
        mirror = mirror_from_images(pairs)
    else:
        mirror = mirror_index()
    landmarker = MediapipeLandmarks()

    def find(image: np.ndarray, name: str) -> np.ndarray | None:
        faces = landmarker.faces(image, name, False)
        return faces[0].points if faces else None

    views, records = load_mvheads(mvheads, find, range(TRAINING_SUBJECTS))
    heads = np.array([2 * record["subject"] + record["expression_id"] for record in records])
    found = [
        find(np.asarray(Image.open(path, formats=("JPEG",)).convert("RGB")), path.name)
        for path in names
    ]
    model = mediapipe_model(
        views, heads, [points for points in found if points is not None], mirror
    )
    save_models(dest, [model, ibug_model(mvheads)], mirror)
    click.echo(
        f"{len(views.points)} renders, {len(found)} photos, {len(model.index)} points: {dest}"
    )
    if evaluate:
        views, _ = load_mvheads(mvheads, find, range(TRAINING_SUBJECTS, 120), yaw=35.0)
        fits = np.stack([fit_pose(points, model).rotation for points in views.points])
        click.echo(f"{len(fits)} renders of other subjects:")
        for name, values in accuracy(views.rotation, fits).items():
            click.echo(f"  {name}: {' '.join(f'{value:.3f}' for value in values)}")


if __name__ == "__main__":
    main()

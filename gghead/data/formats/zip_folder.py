"""A folder some of whose files are zips, read as if they were folders: ``image/cam1.zip/cam1/000123.avif``."""

from pathlib import Path
from typing import BinaryIO

from gghead.data.sources import FolderSource, ZipSource


class ZipFolderSource:
    """Named files below a folder; members of its zips carry the zip's name as that of a folder."""

    def __init__(self, path: Path):
        self.path = path
        self._folder = FolderSource(path)
        self._zips = {name: ZipSource(path / name) for name in self._folder.names() if name.endswith(".zip")}
        plain = [name for name in self._folder.names() if name not in self._zips]
        packed = [f"{name}/{member}" for name, archive in self._zips.items() for member in archive.names()]
        self._names = sorted(plain + packed)

    def names(self) -> list[str]:
        return self._names

    def read(self, name: str) -> bytes:
        source, inner = self._find(name)
        return source.read(inner)

    def open(self, name: str) -> BinaryIO:
        source, inner = self._find(name)
        return source.open(inner)

    def head(self, name: str, count: int) -> bytes:
        source, inner = self._find(name)
        return source.head(inner, count)

    def close(self) -> None:
        self._folder.close()
        for archive in self._zips.values():
            archive.close()

    def _find(self, name: str) -> tuple[FolderSource | ZipSource, str]:
        archive, found, inner = name.partition(".zip/")
        return (self._zips[f"{archive}.zip"], inner) if found else (self._folder, name)

"""Frames of videos by number, decoded with PyAV: ``video.mp4#17`` is frame 17 of a video."""

import threading
from collections import OrderedDict
from typing import BinaryIO

import numpy as np

from gghead.data.files import Files
from gghead.torch_utils.errors import UserError
from gghead.video import load_pyav

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".webm")
_EBML = b"\x1a\x45\xdf\xa3"  # the beginning of Matroska and WebM (RFC 8794)
# decoders kept per thread: a rig's cameras are read in turn, and seeking costs a key frame's
# distance
_OPEN = 32


def is_video_frame(name: str) -> bool:
    return "#" in name and name.rpartition("#")[0].lower().endswith(VIDEO_SUFFIXES)


class _Decoder:
    """One open video and the frame that it would decode next.

    FFmpeg gets an open file and the name of the one container format that its first bytes show. By
    its own choice it would take a name for an address (``concat:…``), and a file of text for a
    playlist that names further files.
    """

    def __init__(self, file: BinaryIO, where: str):
        self.file, self.where = file, where
        av = load_pyav(where, "extract its frames to images first")
        kind = "matroska" if file.read(4) == _EBML else "mov"
        file.seek(0)
        try:
            self.container = av.open(file, format=kind, options={"protocol_whitelist": "none"})
            self.stream = self.container.streams.video[0]
        except (av.FFmpegError, IndexError) as error:
            file.close()
            raise UserError(f"{where} is not a readable video ({error}); copy it again.") from error
        self.errors = (av.FFmpegError, StopIteration)
        self._rewind()

    def close(self) -> None:
        self.container.close()
        self.file.close()

    def __del__(self):
        self.file.close()

    def _rewind(self) -> None:
        self.container.seek(0)
        self.frames = self.container.decode(self.stream)
        self.next = 0

    def frame(self, index: int) -> np.ndarray:
        if index < self.next:
            self._rewind()
        image = None
        try:
            while self.next <= index:  # counting is exact, whatever the time stamps say
                image = next(self.frames)
                self.next += 1
        except self.errors as error:
            raise UserError(
                f"{self.where} ends or is damaged at frame {self.next}, but frame {index} is"
                " needed; copy it again or leave the frames after it out."
            ) from error
        assert image is not None  # the loop ran: next was <= index
        return image.to_ndarray(format="rgb24")


class VideoFrames:
    """Frames of the videos of a source; every thread has its own decoders."""

    def __init__(self, source: Files):
        self.source = source
        self._local = threading.local()

    def read(self, name: str) -> np.ndarray:  # "video.mp4#17" -> [H, W, 3] uint8
        """Decode one frame.

        Raises ``UserError`` without PyAV or for a damaged or too short video.
        """
        video, _, index = name.rpartition("#")
        return self._decoder(video).frame(int(index))

    def count(self, video: str) -> int:
        """Return the number of frames: what the file says, or else as many as can be unpacked."""
        decoder = self._decoder(video)
        stated = decoder.stream.frames
        if stated:
            return stated
        decoder._rewind()
        counted = sum(packet.size > 0 for packet in decoder.container.demux(decoder.stream))
        decoder._rewind()
        return counted

    def _decoder(self, video: str) -> _Decoder:
        decoders = self._local.__dict__.setdefault("decoders", OrderedDict())
        if video not in decoders:
            where = f"{video} in {self.source.path}"
            try:
                file = self.source.open(video)
            except (KeyError, FileNotFoundError) as error:
                raise UserError(f"{where} is missing; copy it again or leave it out.") from error
            decoders[video] = _Decoder(file, where)
            if len(decoders) > _OPEN:
                decoders.popitem(last=False)[1].close()
        decoders.move_to_end(video)
        return decoders[video]

    def __getstate__(self) -> dict:
        return {"source": self.source}

    def __setstate__(self, state: dict) -> None:
        self.__init__(state["source"])

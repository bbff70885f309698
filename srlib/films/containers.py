"""Containers and codecs of films: which ending means which, and what each can hold. Nothing here needs PyAV."""

import importlib.util
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from srlib.errors import SrlibError, pip_install

READABLE = "MP4, QuickTime, Matroska or WebM"

_FIRST_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"pnot")
"""First box of an MP4 or QuickTime file."""

_EBML = b"\x1a\x45\xdf\xa3"
"""First bytes of a Matroska or WebM file."""


@dataclass(frozen=True)
class Codec:
    """A video codec that is written.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        longest: Most pixels per side.
        formats: Bits per channel → FFmpeg's name of the pixel format.
        lowest_crf: Constant rate factor of quality 100.
        highest_crf: Constant rate factor of quality 0.
        options: Further options of the encoder.
    """

    encoder: str
    longest: int
    formats: Mapping[int, str]
    lowest_crf: float
    highest_crf: float
    options: Mapping[str, str] = field(default_factory=dict)

    def crf(self, quality: int) -> int:
        """Return the constant rate factor that a quality from 1 to 100 stands for.

        Example:
            >>> [CODECS["h264"].crf(quality) for quality in (100, 95, 75, 50, 1)]
            [15, 17, 24, 33, 51]
        """
        return round(self.lowest_crf + (self.highest_crf - self.lowest_crf) * (100 - quality) / 100)


_YUV = {8: "yuv420p", 10: "yuv420p10le"}

CODECS = {
    # A short lookahead: each frame in it holds memory of the result's size. Half of x264's usual CPU time.
    "h264": Codec("libx264", 16_384, _YUV, 15, 51, {"preset": "faster", "motion-est": "dia", "rc-lookahead": "20"}),
    "hevc": Codec("libx265", 8_192, _YUV, 15, 51, {"x265-params": "log-level=none:rc-lookahead=15"}),
    "vp9": Codec("libvpx-vp9", 16_384, {8: "yuv420p"}, 19, 63, {"cpu-used": "3", "row-mt": "1", "b": "0"}),
    "av1": Codec("libsvtav1", 8_704, _YUV, 19, 63, {"preset": "8"}),
}
"""Name → codec. The range of CRF is chosen so that one quality looks about the same in all of them."""


@dataclass(frozen=True)
class Container:
    """A kind of film file that is written.

    Attributes:
        name: Name in messages.
        suffixes: Endings of file names, the usual one first.
        muxer: FFmpeg's name.
        codecs: Keys of `CODECS` that it holds; the first is the default.
        deep_codec: The default for 10 bits.
        options: Options of the muxer.
        in_milliseconds: Whether it stores times in whole milliseconds.
    """

    name: str
    suffixes: tuple[str, ...]
    muxer: str
    codecs: tuple[str, ...]
    deep_codec: str
    options: Mapping[str, str] = field(default_factory=dict)
    in_milliseconds: bool = False


_FAST_START = {"movflags": "+faststart"}

CONTAINERS = {
    "mp4": Container("MP4", (".mp4", ".m4v"), "mp4", ("h264", "hevc", "vp9", "av1"), "hevc", _FAST_START),
    "mov": Container("QuickTime", (".mov",), "mov", ("h264", "hevc"), "hevc", _FAST_START),
    "mkv": Container("Matroska", (".mkv",), "matroska", ("h264", "hevc", "vp9", "av1"), "hevc", in_milliseconds=True),
    "webm": Container("WebM", (".webm",), "webm", ("vp9", "av1"), "av1", in_milliseconds=True),
}
"""Name → container; `srlib.formats.suffixes.FILM_SUFFIXES` lists their endings."""


def container_of(path: Path) -> Container:
    """Return the container that a name's ending means.

    Raises:
        SrlibError: The ending belongs to none of them.
    """
    for container in CONTAINERS.values():
        if path.suffix.lower() in container.suffixes:
            return container
    endings = ", ".join(container.suffixes[0] for container in CONTAINERS.values())
    raise SrlibError(f"{path}: expected a name that ends in {endings}; the ending selects the kind of film file")


def codec_for(container: Container, depth: int, name: str | None) -> str:
    """Return the key of `CODECS` for a result.

    Args:
        container: Container of the result.
        depth: Bits per channel of the film, 8 or 10.
        name: The codec that was asked for, or None.

    Raises:
        SrlibError: No such codec, or the container or codec cannot hold the film.
    """
    if name is None:
        return container.codecs[0] if depth == 8 else container.deep_codec
    if name not in container.codecs:
        raise SrlibError(f"codec: expected {' or '.join(container.codecs)} for {container.name}, got {name!r}")
    if depth not in CODECS[name].formats:
        raise SrlibError(f"codec: {name} is written with 8 bits only, and the film has 10; use {container.deep_codec}")
    return name


def demuxer_of(path: Path) -> str:
    """Return FFmpeg's name for the kind of film that a file's first bytes show, whatever its ending.

    The reader is restricted to this kind, so that no file can make it open another one, as a playlist does.

    Raises:
        SrlibError: Not a regular file, or none of the kinds that are read.
        OSError: Missing or unreadable.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise SrlibError(f"{path}: expected a film file, got a folder, pipe or device")
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in _FIRST_BOXES:
        return "mov"
    if head[:4] == _EBML:
        return "matroska"
    if not head:
        raise SrlibError(f"{path}: is empty; expected a film ({READABLE})")
    raise SrlibError(
        f"{path}: not an {READABLE} film; another kind becomes one without loss by: ffmpeg -i FILM -c copy FILM.mkv"
    )


def address(path: Path) -> str:
    """Return a path as FFmpeg takes it for a local file, whatever its name looks like.

    Example:
        >>> address(Path("/films/http:a.mp4"))
        'file:/films/http:a.mp4'
    """
    return f"file:{path.absolute()}"


def require_pyav() -> None:
    """Raise an SrlibError that says what to install where PyAV is missing."""
    if importlib.util.find_spec("av") is None:
        raise SrlibError(f"films need PyAV: {pip_install('srlib[films]')}")

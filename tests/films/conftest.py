"""Tiny films of every kind, made with PyAV."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from srlib.films.color import Color, from_rgb
from srlib.films.options import FilmOptions
from srlib.films.upscaling import FilmOutcome, upscale_one_film
from srlib.imaging.resize import resize

WIDTH, HEIGHT, FRAMES = 64, 48, 12
TICK = Fraction(1, 12_800)


class Bicubic:
    """A model that upscales by MATLAB bicubic; counts its calls and may stop at one of them."""

    scale = 4
    name = "bicubic"
    fingerprint = "bicubic"

    def __init__(self, stop_at: int | None = None) -> None:
        self.calls = 0
        self._stop_at = stop_at

    def __call__(self, rgb: np.ndarray, *, on_pixels: Callable[[int], object] | None = None) -> np.ndarray:
        self.calls += 1
        if self.calls == self._stop_at:
            raise KeyboardInterrupt
        return resize(rgb, self.scale)


def image(number: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """Return a smooth colored image that moves with its number."""
    y, x = np.mgrid[:height, :width]
    x = x + number
    channels = [128 + 80 * np.sin(x / 12), 128 + 70 * np.cos(y / 9), 100 + 60 * np.sin((x + y) / 15)]
    return np.rint(np.stack(channels, -1)).astype(np.uint8)


def make_film(
    path: Path,
    *,
    muxer: str | None = None,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    size: tuple[int, int] = (WIDTH, HEIGHT),
    ticks: Sequence[int] = tuple(512 * n for n in range(FRAMES)),
    time_base: Fraction = TICK,
    matrix: int = 6,
    is_full_range: bool = False,
    transfer: int = 2,
    aspect: Fraction = Fraction(1),
    rotation: int = 0,
    sounds: int = 1,
    subtitles: str | None = None,
    chapters: bool = False,
    is_interlaced: bool = False,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a film of moving waves; return its path."""
    import av

    color = Color(6 if matrix == 2 else matrix, is_full_range, depth=10 if "10" in pixel_format else 8)
    with av.open(str(path), "w", format=muxer) as out:
        out.metadata["title"] = "Waves"
        video = out.add_stream(codec, rate=25, options=options or ({"crf": "1"} if codec == "libx264" else {}))
        context = video.codec_context
        context.width, context.height, context.pix_fmt = *size, pixel_format
        video.time_base = context.time_base = time_base
        context.colorspace, context.color_range, context.color_trc = matrix, color.range, transfer
        context.sample_aspect_ratio = aspect
        if rotation:
            video.set_display_rotation(rotation)
        tracks = [_sound(out, number) for number in range(sounds)]
        text = out.add_mux_stream(subtitles) if subtitles else None
        if text:
            text.time_base = Fraction(1, 1000)
        if chapters:
            titles = ({"title": "One"}, {"title": "Two"})
            out.set_chapters(
                [
                    {"id": n, "start": 240 * n, "end": 240 * (n + 1), "time_base": Fraction(1, 1000), "metadata": t}
                    for n, t in enumerate(titles)
                ]
            )
        for number, tick in enumerate(ticks):
            frame = _frame(image(number, size[1], size[0]), pixel_format, color)
            frame.pts, frame.time_base = tick, time_base
            frame.colorspace, frame.color_trc = matrix, transfer
            out.mux(video.encode(frame))
            for track in tracks:
                out.mux(track.encode(_sound_frame(number, track.time_base)))
        for stream in (video, *tracks):
            out.mux(stream.encode(None))
        if text:
            out.mux(_subtitle(text, subtitles))
    return path


def _frame(rgb: np.ndarray, pixel_format: str, color: Color) -> Any:
    """Return a frame; only that of 4:2:0 is exact."""
    import av

    if pixel_format.startswith("yuv420p"):
        return from_rgb(rgb, color)
    names = {"dst_colorspace": "smpte170m", "src_color_range": 2, "dst_color_range": color.range}
    return av.VideoFrame.from_ndarray(rgb, "rgb24").reformat(format=pixel_format, **names)


def _sound(out: Any, number: int) -> Any:
    name = {"webm": "libopus"}.get(out.format.name, "aac")
    stream = out.add_stream(name, rate=48_000, layout="mono")
    stream.metadata["language"] = ("eng", "deu")[number]
    return stream


def _sound_frame(number: int, time_base: Fraction) -> Any:
    import av

    samples = np.sin(np.arange(1920) * (0.05 + 0.001 * number)).astype(np.float32)[None] / 4
    frame = av.AudioFrame.from_ndarray(samples, "fltp", "mono")
    frame.sample_rate, frame.pts, frame.time_base = 48_000, 1920 * number, Fraction(1, 48_000)
    return frame


def _subtitle(stream: Any, codec: str | None) -> Any:
    import av

    text = b"Hello"
    packet = av.Packet(len(text).to_bytes(2, "big") + text if codec == "mov_text" else text)
    packet.stream, packet.time_base = stream, Fraction(1, 1000)
    packet.pts = packet.dts = 40
    packet.duration = 200
    return packet


def frames(path: Path) -> list[tuple[int, np.ndarray]]:
    """Return the time in ticks and the RGB of every frame."""
    from srlib.films.reading import FrameReader, describe_film

    return [(frame.tick, frame.rgb) for frame in FrameReader(describe_film(path)).frames()]


def packets(path: Path, kind: str) -> list[tuple[float, bytes]]:
    """Return the time in seconds and the content of every packet of one kind of stream."""
    import av

    with av.open(str(path)) as container:
        chosen = [stream for stream in container.streams if stream.type == kind]
        return [(float(p.pts * p.time_base), bytes(p)) for p in container.demux(*chosen) if p.size] if chosen else []


def run(source: Path, target: Path, *, model: Bicubic | None = None, **options: Any) -> FilmOutcome:
    """Upscale with the stand-in model."""
    return upscale_one_film(source, target, model or Bicubic(), FilmOptions(**options))

"""What a run writes beside its results: a table of scores that need no original, maps of detail and of uncertainty."""

import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from srlib.atomic import link_mistake
from srlib.errors import SrlibError, one_line, printable
from srlib.imaging.array_image import write_image
from srlib.imaging.consistency import lr_consistency, undetermined_detail
from srlib.imaging.image_file import ImageFile
from srlib.imaging.uncertainty import draw_bands
from srlib.inference.bands import check_bands, load_bands
from srlib.inference.input_traces import InputTraces
from srlib.inference.inspection import inputs_of
from srlib.inference.jobs import ImageJob
from srlib.inference.output_size import OutputSize
from srlib.inference.shipped import AUTO
from srlib.inference.side_files import SideFiles
from srlib.inference.upscale import RgbModel, visible_colors

MAP, UNCERTAINTY = "--map", "--uncertainty"
"""Options that draw an image beside each result."""

LARGEST_SHADE = 32.0
"""Undetermined detail, in levels of 255, that a map shows as white."""


@dataclass(frozen=True)
class Scores:
    """One line of the table of scores.

    Attributes:
        image: The LR image.
        result: The file that was written.
        width: Width of the LR image in pixels.
        height: Height of the LR image.
        result_width: Width of the result.
        result_height: Height of the result.
        model: Name of the model.
        seconds: Time for upscaling, without reading and writing files.
        lr_psnr: PSNR in dB between the result, before a JPEG or WebP file compresses it, downscaled again, and the LR
            image; `inf` where both are equal.
        lr_largest_error: Largest difference between the two, in levels of 255.
        noise: Noise of the LR image, a standard deviation in levels of 255; None where it cannot be estimated.
        blur: Its blur, the standard deviation of a Gaussian in pixels; the same.
        jpeg_quality: Its JPEG quality; None for other files.
        noise_outside: How far the noise lies outside of what the model was trained for, 0 inside; None where it is not
            known.
        blur_outside: The same for blur.
        jpeg_quality_outside: The same for the JPEG quality.
    """

    image: str
    result: str
    width: int
    height: int
    result_width: int
    result_height: int
    model: str
    seconds: float
    lr_psnr: float
    lr_largest_error: float
    noise: float | None = None
    blur: float | None = None
    jpeg_quality: int | None = None
    noise_outside: float | None = None
    blur_outside: float | None = None
    jpeg_quality_outside: float | None = None


_COLUMNS = tuple(field.name for field in fields(Scores))


@dataclass(frozen=True)
class Records:
    """Where the scores and the maps of a run go.

    Attributes:
        scores: CSV file that gets one line per image; lines are added to an existing one.
        maps: A PNG file for a single image, else a folder that gets one PNG per image.
        bands: The same for maps of uncertainty.
        model: Whose bands of uncertainty hold for the results: a model as `open_model` takes it, or `auto`; None where
            it has no name.
        out: The output of the run, below which the results lie; names in the folder of maps follow them.
        lines: The scores so far.
        columns: Columns of the CSV file; one of an earlier version of srlib keeps its own.
        tracked: Whether the scores are for MLflow, too.
        fingerprints: Name of each model that was used → its fingerprint.
    """

    scores: Path | None = None
    maps: Path | None = None
    out: Path = Path(".")
    lines: list[Scores] = field(default_factory=list)
    columns: list[str] = field(default_factory=lambda: list(_COLUMNS))
    tracked: bool = False
    fingerprints: dict[str, str] = field(default_factory=dict)
    bands: Path | None = None
    model: str | None = None

    @classmethod
    def at(
        cls,
        scores: str | Path | None,
        maps: str | Path | None,
        out: str | Path,
        *,
        bands: str | Path | None = None,
        model: str | None = None,
        tracked: bool = False,
    ) -> "Records":
        """Return the records of a run from paths as a user gives them."""
        tables, maps_path, bands_path = (None if path is None else Path(path) for path in (scores, maps, bands))
        return cls(tables, maps_path, Path(out), tracked=tracked, bands=bands_path, model=model)

    @property
    def need_traces(self) -> bool:
        """Whether the degradation of each image must be estimated."""
        return self.scores is not None or self.tracked

    @property
    def options(self) -> list[str]:
        """The command's options that write something for each image."""
        return [*(["--scores"] if self.scores is not None else []), *(side.option for side in self._sides)]

    def check(self, jobs: tuple[ImageJob, ...]) -> None:
        """Check before any work that everything can be written.

        Raises:
            SrlibError: The table of scores has other columns or is not a file, or maps would overwrite something.
        """
        if self.scores is not None:
            self.columns[:] = _columns_of(self.scores)
        for side in self._sides:
            side.check(jobs)
        if len({side.of(jobs[0]).resolve() for side in self._sides}) < len(self._sides):
            raise SrlibError(f"{UNCERTAINTY} {self.bands}: is the place of {MAP} too; name another one")

    def check_model(self, model: RgbModel, size: OutputSize, *, consistent: bool) -> None:
        """Check before any work that the model has bands that hold for the results, where they are asked for.

        Args:
            model: The opened model.
            size: How large each result becomes.
            consistent: Whether results are corrected.

        Raises:
            SrlibError: It has none, or they do not.
        """
        if self.bands is None:
            return
        try:
            if self.model is None:
                raise SrlibError("bands are kept beside a model's files; give the model by its name or folder")
            check_bands(self.model, size, model.scale, consistent=consistent)
        except SrlibError as error:
            raise SrlibError(f"{UNCERTAINTY}: {error}") from None

    @property
    def _sides(self) -> list[SideFiles]:
        places = {MAP: self.maps, UNCERTAINTY: self.bands}
        return [SideFiles(option, path, self.out) for option, path in places.items() if path is not None]

    def draw(self, job: ImageJob, image: ImageFile, result: ImageFile, model: RgbModel) -> str | None:
        """Write the images beside a result. Call it before the result is written: one that exists is complete.

        Args:
            job: The image and its result.
            image: The LR image.
            result: The upscaled image, at least as large.
            model: The model that made it.

        Returns:
            How sure the result is, in words; None where it is not asked for.
        """
        words = None
        for side in self._sides:
            if side.option == MAP:
                detail = undetermined_detail(image.rgb.shape[:2], result.rgb)
                shades = np.rint(np.minimum(detail / LARGEST_SHADE, 1) * 255).astype(np.uint8)
            else:
                assert self.model is not None
                bands = load_bands(model.name if self.model == AUTO else self.model)
                shades, mean = draw_bands(bands, result.rgb)
                words = f"95 % of the original's pixels lie within {mean:.1f} levels of 255 on average"
            path = side.of(job)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_image(path, shades)
        return words

    def score(
        self,
        job: ImageJob,
        image: ImageFile,
        result: ImageFile,
        *,
        model: RgbModel,
        seconds: float,
        traces: InputTraces,
    ) -> Scores | None:
        """Return the scores of one image, to be added with its result; None where they are not asked for.

        Args:
            job: The image and its result.
            image: The LR image.
            result: The upscaled image, at least as large.
            model: The model.
            seconds: Time for upscaling.
            traces: What is known of the LR image's degradation.
        """
        self.fingerprints[model.name] = str(getattr(model, "fingerprint", ""))
        return _scores(job, image, result, traces, model=model, seconds=seconds) if self.need_traces else None

    def add(self, scores: Scores | None) -> None:
        """Add a line to the table, unless it is None."""
        if scores is None:
            return
        self.lines.append(scores)
        if self.scores is not None:
            with self.scores.open("a", encoding="utf-8", errors="surrogateescape") as file:
                file.write(_csv([scores], self.columns))


def table(lines: Sequence[Scores]) -> str:
    """Return scores as CSV with a header; names that are not UTF-8 are escaped, so that it can be sent."""
    named = [replace(line, image=printable(line.image), result=printable(line.result)) for line in lines]
    return f"{','.join(_COLUMNS)}\n{_csv(named, _COLUMNS)}"


def _csv(lines: Sequence[Scores], columns: Sequence[str]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writerows(asdict(line) for line in lines)
    return text.getvalue()


def _scores(
    job: ImageJob, image: ImageFile, result: ImageFile, traces: InputTraces, *, model: RgbModel, seconds: float
) -> Scores:
    consistency = lr_consistency(visible_colors(image), result.rgb)
    levels = np.iinfo(result.rgb.dtype).max // 255  # of 16 bits, in one of 8 bits
    height, width = image.rgb.shape[:2]
    result_height, result_width = result.rgb.shape[:2]
    return Scores(
        str(job.source or job.name),
        "standard output" if job.target is None else str(job.target),
        width,
        height,
        result_width,
        result_height,
        model.name,
        round(seconds, 3),
        round(consistency.psnr, 3),
        round(consistency.largest_error / levels, 2) if levels > 1 else consistency.largest_error,
        None if traces.noise is None else round(traces.noise, 2),
        None if traces.blur is None else round(traces.blur, 2),
        traces.jpeg_quality,
        *traces.distances(inputs_of(model)),
    )


def _columns_of(path: Path) -> list[str]:
    """Make the table with its header, or return the columns of an existing one."""
    if mistake := link_mistake(path):
        raise SrlibError(f"--scores {mistake}")
    try:
        if not path.exists() or (path.is_file() and not path.stat().st_size):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{','.join(_COLUMNS)}\n", encoding="utf-8")
        if not path.is_file():
            raise SrlibError(f"--scores {path}: expected a CSV file, got a folder or device")
        with path.open("rb+") as file:
            columns = file.readline(4096).decode("utf-8-sig", "replace").strip().split(",")
            unknown = [name for name in columns if name not in _COLUMNS]
            file.seek(-1, 2)
            if not unknown and file.read(1) != b"\n":  # the last line was cut
                file.write(b"\n")
    except OSError as error:
        raise SrlibError(f"--scores {path}: cannot be written: {error.strerror}") from error
    if len(unknown) == len(columns):
        raise SrlibError(f"--scores {path}: exists and is no table of scores; name another file")
    if unknown or len(set(columns)) < len(columns):
        what = f"the unknown column {one_line(unknown[0], limit=40)!r}" if unknown else "a column twice"
        raise SrlibError(f"--scores {path}: is another table, with {what}; name another file")
    if missing := [name for name in _COLUMNS if name not in columns]:
        text = f"made by an earlier version, without {', '.join(missing)}; name another file to get them"
        print(f"--scores {path}: {text}", file=sys.stderr)
    return columns

"""Images that a run draws beside its results: where they go, checked before any work."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from srlib.atomic import link_mistake
from srlib.errors import SrlibError
from srlib.files import check_output, check_output_folder
from srlib.formats.suffixes import OTHER_SUFFIXES, READ_SUFFIXES
from srlib.inference.jobs import ImageJob


@dataclass(frozen=True)
class SideFiles:
    """Where one image for each result goes.

    Attributes:
        option: Name of the command's option, for messages.
        path: A PNG file for a single result, else a folder that gets one PNG per result.
        out: The output of the run, below which the results lie; names in the folder follow them.
    """

    option: str
    path: Path
    out: Path

    @property
    def _is_file(self) -> bool:
        return self.path.suffix.lower() == ".png"

    def of(self, job: ImageJob) -> Path:
        """Return the file that belongs to a result."""
        if self._is_file:
            return self.path
        if job.target is None:
            return self.path / "map.png"
        inside = job.target.relative_to(self.out) if self.out in job.target.parents else Path(job.target.name)
        return self.path / inside.with_name(inside.name.removesuffix(".png") + ".png")  # a.jpg.png: a.png may exist too

    def check(self, jobs: Sequence[ImageJob]) -> None:
        """Check that everything can be written and overwrites no image.

        Raises:
            SrlibError: It cannot, or it would.
        """
        start = f"{self.option} {self.path}"
        if mistake := link_mistake(self.path):
            raise SrlibError(f"{self.option} {mistake}")
        if not self._is_file and self.path.suffix.lower() in READ_SUFFIXES | OTHER_SUFFIXES and not self.path.exists():
            raise SrlibError(f"{start}: expected a name that ends in .png, or a folder")
        if self._is_file and len(jobs) > 1:
            raise SrlibError(f"{start}: one file for {len(jobs)} images; name a folder")
        if self._is_file and self.path.exists() and not self.path.is_file():
            raise SrlibError(f"{start}: expected a PNG file to write, got a folder or device")
        if not self._is_file and self.path.exists() and not self.path.is_dir():
            raise SrlibError(f"{start}: expected a PNG file or a folder, got another file")
        try:
            (check_output if self._is_file else check_output_folder)(self.path)
        except SrlibError as error:
            raise SrlibError(f"{self.option} {error}") from None
        used = {path.resolve() for job in jobs for path in (job.source, job.target) if path}
        owners: dict[Path, ImageJob] = {}
        for job in jobs:
            place = self.of(job)
            if place.resolve() in used:
                raise SrlibError(f"{start}: would overwrite {place}; name another place")
            if place.is_file() and not _is_map(place):
                raise SrlibError(f"{start}: {place} exists and is no map; name another place")
            if (owner := owners.setdefault(place, job)) is not job:
                raise SrlibError(f"{start}: {owner.name} and {job.name} would both become {place}; rename one of them")


def _is_map(path: Path) -> bool:
    """Return whether a file is a gray PNG of 8 bits, as maps are; a photograph hardly ever is."""
    with path.open("rb") as file:
        header = file.read(26)
    return header.startswith(b"\x89PNG\r\n\x1a\n") and header[24:] == b"\x08\x00"

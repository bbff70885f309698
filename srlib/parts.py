"""Divide a list of files among independent jobs by their names, as `--part 3/32` does."""

import hashlib
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from srlib.errors import SrlibError

Item = TypeVar("Item")


@dataclass(frozen=True)
class Part:
    """One of `count` parts of any list of files.

    The part of a file follows from its name alone: the first eight bytes of the SHA-256 of its path inside the folder,
    as a number, modulo `count`. So the jobs of an array agree without talking to each other, also where files are added
    or removed between their starts; a division by position would then leave out files and do others twice. The price is
    that parts differ in size: for n files per part by about √n.

    Attributes:
        number: From 1 to `count`.
        count: Number of parts.

    Example:
        >>> names = ["a.png", "b.png", "c/d.png"]
        >>> [Part.parse(f"{k}/2").of(names) for k in (1, 2)]
        [['a.png', 'b.png'], ['c/d.png']]
    """

    number: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Part":
        """Return the part that a text such as `3/32` names.

        Raises:
            SrlibError: The text has another form, or the number is not from 1 to the count.
        """
        match = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", text)
        number, count = (int(match[1]), int(match[2])) if match else (0, 0)
        if not 1 <= number <= count:
            hint = "; parts count from 1, so add 1 to a number that counts from 0" if match and number == 0 else ""
            raise SrlibError(f"--part: expected K/N with K from 1 to N, such as 3/32, got {text}{hint}")
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, items: Iterable[Item], name: Callable[[Item], str] = str) -> list[Item]:
        """Return the items of this part, in their order.

        Args:
            items: The whole list.
            name: Function that returns the name that decides, with "/" as separator (default: `str`).
        """
        return [item for item in items if _number(name(item)) % self.count == self.number - 1]

    def file(self, path: Path) -> Path:
        """Return the file of this part, `scores.part-03-of-32.csv` for `scores.csv`, so that jobs do not share one."""
        digits = len(str(self.count))
        return path.with_name(f"{path.stem}.part-{self.number:0{digits}}-of-{self.count}{path.suffix}")


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(name)).digest()[:8])

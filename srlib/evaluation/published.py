"""Scores as printed in the papers, ×4, to compare with our scores.

They were computed by each paper's own code. Its bicubic upscales Y alone from an LR image that was never rounded, and
leaves Set14's grayscale `bridge` unconverted, which changes every method by 0.09 dB on that set.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Published:
    """One row of a paper's table.

    Attributes:
        title: Name of the method.
        source: Authors and year.
        parameters: Number of parameters; None for an interpolation.
        scores: Set → (PSNR-Y in dB, SSIM-Y or None).
        comparable_ssim: Whether its SSIM was computed by the rules of this protocol.
    """

    title: str
    source: str
    parameters: int | None
    scores: dict[str, tuple[float, float | None]]
    comparable_ssim: bool = True


PUBLISHED: dict[int, tuple[Published, ...]] = {
    4: (
        Published(
            "bicubic",
            "Lim et al. 2017",
            None,
            {"Set5": (28.42, 0.8104), "Set14": (26.00, 0.7027), "BSD100": (25.96, 0.6675)},
        ),
        Published(
            "SRCNN",
            "Dong et al. 2014; luma only",
            57_000,
            {
                "Set5": (30.48, 0.8628),
                "Set14": (27.50, 0.7513),
                "BSD100": (26.90, 0.7101),
                "Urban100": (24.52, 0.7221),
            },
        ),
        Published("FSRCNN", "Dong et al. 2016, trained on 91 images; luma only", 12_500, {"Set5": (30.55, None)}),
        Published("ESPCN", "Shi et al. 2016; luma only", 25_000, {"Set5": (30.90, None), "Set14": (27.73, None)}),
        Published(
            "SRResNet",
            "Ledig et al. 2017",
            1_500_000,
            {"Set5": (32.05, 0.9019), "Set14": (28.49, 0.8184), "BSD100": (27.58, 0.7620)},
            comparable_ssim=False,
        ),
        Published(
            "EDSR baseline",
            "Lim et al. 2017",
            1_520_000,
            {
                "Set5": (32.09, 0.8938),
                "Set14": (28.58, 0.7813),
                "BSD100": (27.57, 0.7357),
                "Urban100": (26.04, 0.7849),
            },
        ),
        Published(
            "EDSR",
            "Lim et al. 2017",
            43_000_000,
            {
                "Set5": (32.46, 0.8968),
                "Set14": (28.80, 0.7876),
                "BSD100": (27.71, 0.7420),
                "Urban100": (26.64, 0.8033),
            },
        ),
        Published(
            "EDSR ×8 ensemble",
            "Lim et al. 2017",
            43_000_000,
            {
                "Set5": (32.62, 0.8984),
                "Set14": (28.94, 0.7901),
                "BSD100": (27.79, 0.7437),
                "Urban100": (26.86, 0.8080),
            },
        ),
        Published(
            "SRGAN",
            "Ledig et al. 2017",
            1_500_000,
            {"Set5": (29.40, 0.8472), "Set14": (26.02, 0.7397), "BSD100": (25.16, 0.6688)},
            comparable_ssim=False,
        ),
    )
}
"""Rows by scale. The SRGAN paper's SSIM was computed by another program (daala) and cannot be compared with ours."""


def counterpart(name: str, parameters: int | None, rows: Sequence[Published]) -> Published | None:
    """Return the published row of the same method: the same name, and for an EDSR the nearest number of parameters."""
    if name == "EDSR" and parameters:
        sizes = {"EDSR baseline": 1_520_000, "EDSR": 43_000_000}
        name = min(sizes, key=lambda title: abs(math.log(sizes[title] / parameters)))
    return next((row for row in rows if row.title == name), None)

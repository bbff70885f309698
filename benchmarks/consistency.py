"""What `--consistent` costs and gains: PSNR-Y, LPIPS, LR consistency and time, before and after.

    python benchmarks/consistency.py HR_FOLDER [--models psnr-x4 gan-x4] [--images 24] [--crop 384]
        [--backbone H5 --linear NPZ]

Takes the center of each HR image, downscales it by 4, upscales it by each model, makes the result consistent, and
prints the means as a table. The LPIPS weights (SqueezeNet) are those of `evaluate.lpips`; without them that column is
`nan`.
"""

import argparse
import statistics
import time
from pathlib import Path

import srlib
from srlib.arrays import Image
from srlib.evaluation.lpips import lpips
from srlib.imaging.consistency import make_consistent
from srlib.imaging.folders import list_images


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="+", default=["psnr-x4", "gan-x4"])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--crop", type=int, default=384)
    parser.add_argument("--backbone", type=Path)
    parser.add_argument("--linear", type=Path)
    options = parser.parse_args()
    distance = lpips(options.backbone, options.linear) if options.backbone else None
    images = [srlib.read_image(path) for path in list_images(options.folder)[: options.images]]
    crops = [center(image, options.crop) for image in images]
    print("| model | consistent | PSNR-Y | LPIPS | LR PSNR | largest error | seconds |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for model in options.models:
        upscaler = srlib.open_model(model)
        rows: dict[bool, list[tuple[float, ...]]] = {False: [], True: []}
        for hr in crops:
            lr = srlib.downscale(hr, 4)
            start = time.perf_counter()
            sr = upscaler(lr)
            upscaled = time.perf_counter()
            results = {False: (sr, upscaled - start), True: (make_consistent(lr, sr), time.perf_counter() - start)}
            for consistent, (image, seconds) in results.items():
                agreement = srlib.lr_consistency(lr, image)
                similarity = distance.compute(hr, image, 4) if distance else float("nan")
                scores = srlib.psnr_y(hr, image, scale=4), similarity, agreement.psnr, agreement.largest_error, seconds
                rows[consistent].append(scores)
        for consistent, values in rows.items():
            psnr, similarity, lr_psnr, error, seconds = map(statistics.mean, zip(*values, strict=True))
            print(
                f"| {model} | {'yes' if consistent else 'no'} | {psnr:.2f} | {similarity:.4f} | {lr_psnr:.2f} | "
                f"{error:.2f} | {seconds:.3f} |"
            )


def center(image: Image, side: int) -> Image:
    """Return the central square, at most `side` long and a multiple of 4."""
    height, width = (min(side, length) // 4 * 4 for length in image.shape[:2])
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


if __name__ == "__main__":
    main()

"""srlib: a reproducible image super-resolution pipeline.

The names in `__all__` are the public interface. Everything else in this package may change without notice.

Images are NumPy arrays, [height, width, channels] with channels in the order R, G, B; `lr` is low resolution, `hr` the
original in high resolution, `sr` the upscaled image.
"""

import importlib
from typing import TYPE_CHECKING

from srlib.errors import SrlibError, pip_install

if TYPE_CHECKING:
    from srlib.films.batch import upscale_film
    from srlib.imaging.array_image import write_image
    from srlib.imaging.consistency import lr_consistency
    from srlib.imaging.metrics import psnr_y, ssim_y
    from srlib.imaging.read import read_image
    from srlib.imaging.resize import downscale, resize
    from srlib.inference.export import export
    from srlib.inference.image_files import upscale_files
    from srlib.inference.shipped import shipped_models
    from srlib.inference.upscale import upscale
    from srlib.inference.upscaler import Upscaler, open_model
    from srlib.models import load_model
    from srlib.params import load_params
    from srlib.rasters.upscaling import upscale_raster

__version__ = "0.2.0.dev0"

__all__ = [
    "SrlibError",
    "Upscaler",
    "__version__",
    "downscale",
    "export",
    "load_model",
    "load_params",
    "lr_consistency",
    "open_model",
    "psnr_y",
    "read_image",
    "resize",
    "shipped_models",
    "ssim_y",
    "upscale",
    "upscale_files",
    "upscale_film",
    "upscale_raster",
    "write_image",
]

# Imported at their first use, so that `import srlib` stays light.
_MODULES = {
    "downscale": "srlib.imaging.resize",
    "export": "srlib.inference.export",
    "load_model": "srlib.models",
    "load_params": "srlib.params",
    "lr_consistency": "srlib.imaging.consistency",
    "open_model": "srlib.inference.upscaler",
    "psnr_y": "srlib.imaging.metrics",
    "read_image": "srlib.imaging.read",
    "resize": "srlib.imaging.resize",
    "shipped_models": "srlib.inference.shipped",
    "ssim_y": "srlib.imaging.metrics",
    "upscale": "srlib.inference.upscale",
    "upscale_film": "srlib.films.batch",
    "upscale_files": "srlib.inference.image_files",
    "upscale_raster": "srlib.rasters.upscaling",
    "Upscaler": "srlib.inference.upscaler",
    "write_image": "srlib.imaging.array_image",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'srlib' has no attribute {name!r}; public names: {', '.join(__all__)}")
    try:
        value: object = getattr(importlib.import_module(_MODULES[name]), name)
    except ModuleNotFoundError as error:
        if (error.name or "srlib").split(".")[0] == "srlib":
            raise
        raise SrlibError(f"srlib.{name} needs {error.name}: {pip_install('srlib[pipeline]')}") from error
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)

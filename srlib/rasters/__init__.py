"""Upscale raster data: GeoTIFF and JPEG 2000 with any bands and numbers. Needs rasterio, the extra `geo`."""

"""A page in the browser that upscales images and films with the functions of `srlib upscale`; see `srlib.demo.page`."""

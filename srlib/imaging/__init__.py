"""Images and files: reading, writing, metadata, color, resizing and metrics. NumPy, Pillow and tifffile; no Keras."""

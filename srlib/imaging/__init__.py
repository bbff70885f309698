"""Images and files: reading, writing, color, resizing and metrics. NumPy and Pillow only, no Keras."""

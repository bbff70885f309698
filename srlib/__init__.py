"""srlib: a reproducible image super-resolution pipeline."""

__version__ = "0.1.0"

"""File formats: what a file declares, its pixels and its metadata, one module per format."""

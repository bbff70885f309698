"""File formats: the bytes of an image file ↔ its pixels and metadata, one module per format."""

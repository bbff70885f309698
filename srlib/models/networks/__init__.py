"""One network per file; `srlib.models.registry` lists them."""

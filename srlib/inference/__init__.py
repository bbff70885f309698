"""Using trained models: upscaling arrays and files, and exporting networks."""

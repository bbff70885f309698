"""From images to batches: downloading, pairing, degrading, cutting into patches and loading."""

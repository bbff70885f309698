"""From pictures to batches: reading, degrading, cutting into patches, loading."""

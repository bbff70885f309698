"""Using trained models on pictures."""

"""Measure exported models on images, and keep the result beside them: bands of uncertainty, an int8 form."""

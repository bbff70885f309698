"""Images as arrays: read, write, resize, convert colors, degrade and measure them. No Keras."""

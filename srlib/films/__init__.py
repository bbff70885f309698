"""Upscale films: frames through the network, everything else copied. Needs PyAV, the extra `films`."""

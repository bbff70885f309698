"""The SRGAN: its loss terms, trainer, discriminator and gradient shares."""

"""The SRGAN: trainer, loss terms, discriminator and gradient shares."""

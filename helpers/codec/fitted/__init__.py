"""A codec fitted to each picture: small decoder and latents are learnt while encoding, and both are sent."""

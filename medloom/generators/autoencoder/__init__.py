"""Autoencoders: images to latents of unit deviation and back."""

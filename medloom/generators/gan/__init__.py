"""Conditional GANs: an image from a mask, a text and noise in one step."""

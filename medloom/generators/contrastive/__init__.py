"""A text encoder that is trained on pairs of images and texts."""

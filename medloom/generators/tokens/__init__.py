"""Token generators: a masked transformer fills in the tokens of an image in a few parallel steps."""

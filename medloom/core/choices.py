"""Names that options choose from and networks implement; here, so that reading options imports no torch."""

# How text reaches a network.
FUSIONS = ("cross-attention", "affine", "none")
# How a mask reaches a network.
SPATIAL_FUSIONS = ("channels", "spade")
# How the modality conditions a model: in the text, as a token of its own, or both.
MODALITY_AS = ("text", "token", "both")
# How latents become tokens: codes as averages of latents, codes learnt by gradients, or a grid of rounded values.
AVERAGES, GRADIENTS, SCALARS = "ema", "gradient", "fsq"
QUANTIZERS = (AVERAGES, GRADIENTS, SCALARS)

"""Names of choices that options offer and networks implement; separate, so that options import no torch."""

# How text conditions a network.
FUSIONS = ("cross-attention", "affine", "none")
# How a mask conditions a network.
SPATIAL_FUSIONS = ("channels", "spade")
# How the modality conditions a network: in the text, by a token of its own, or both.
MODALITY_AS = ("text", "token", "both")
# What a network predicts in discrete diffusion, and how its noise grows.
PREDICTIONS = ("epsilon", "v")
NOISE_SCHEDULES = ("linear", "scaled-linear", "cosine")
# How latents become tokens: codes by moving averages, codes by gradients, or rounding to a grid.
AVERAGES, GRADIENTS, SCALARS = "ema", "gradient", "fsq"
QUANTIZERS = (AVERAGES, GRADIENTS, SCALARS)

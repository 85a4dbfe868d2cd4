"""A virtual cohort whose anatomy and disease come from a known causal model."""

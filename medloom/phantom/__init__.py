"""A virtual cohort whose anatomy and disease follow a known causal model."""

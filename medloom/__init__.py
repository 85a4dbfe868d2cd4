"""Conditional and counterfactual medical image generation."""

__version__ = "0.1.0"

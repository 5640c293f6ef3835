"""Distillation of text encoders."""

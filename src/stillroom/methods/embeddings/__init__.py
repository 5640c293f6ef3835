"""Distillation of sentence encoders."""

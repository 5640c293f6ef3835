"""Distillation of image models."""

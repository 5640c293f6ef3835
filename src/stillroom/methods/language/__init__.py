"""Distillation of language models."""

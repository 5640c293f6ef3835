"""Distillation of search: rerankers, dual encoders, late interaction."""

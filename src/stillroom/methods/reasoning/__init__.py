"""Distillation of reasoning: chains of thought, programs, tools, and what a model learns from its own attempts."""

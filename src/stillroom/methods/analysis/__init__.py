"""Probes of models, what distillation does to them, and the surveys by whose words the catalogue is browsed."""

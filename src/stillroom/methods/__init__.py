"""One paper, one file: ``methods/<family>/<slug>.py`` holds what is new in that paper. A method never imports a method.

`baselines` holds what methods are measured against. Nothing is imported here; a method is found by its name.
"""

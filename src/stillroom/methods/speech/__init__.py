"""Systems for speech."""

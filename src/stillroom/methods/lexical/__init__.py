"""Word vectors, senses and lexical relations."""

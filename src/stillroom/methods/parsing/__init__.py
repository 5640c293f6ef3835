"""Methods of parsing: to meanings under a grammar, and to trees."""

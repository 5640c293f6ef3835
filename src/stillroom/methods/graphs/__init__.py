"""Systems for models of nodes and links."""

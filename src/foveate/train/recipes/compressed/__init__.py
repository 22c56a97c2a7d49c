"""Training of the compressed-domain cascade: networks, exits and fusion."""

"""How good images are, as the papers measure it: features, figures, reports."""

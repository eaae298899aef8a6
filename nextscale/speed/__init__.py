"""How fast nextscale is on the machine at hand, and where the time goes."""

"""Images and cached tokens, in an order and with draws that depend on nothing but seeds."""

"""Edits that no model was trained for: fill a hole, extend a frame, change a class, vary."""

"""Reads images and cached tokens in an order and with random draws that only seeds determine."""

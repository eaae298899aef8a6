"""Scaling laws (VAR Sec. 4.2): a ladder of trainings, laws fitted to it, what they predict."""

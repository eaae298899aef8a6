"""The machine: devices, instructions, memory, what it can multiply."""

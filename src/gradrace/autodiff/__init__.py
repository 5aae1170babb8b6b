"""Automatic differentiation of scalar Python code: dual numbers (forward mode) and a tape (reverse mode)."""

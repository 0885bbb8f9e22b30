"""Metrics as pure functions of plain numbers and texts."""

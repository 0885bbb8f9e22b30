"""How Kit was made: one module for each stage, and what they share (docs/training.md)."""

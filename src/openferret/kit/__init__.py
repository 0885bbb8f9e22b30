"""Kit, the embedded model: its base weights, its adapter, its card."""

"""One process or many: what changes between a laptop and a cluster, and nothing else does."""

"""The fast engine: a LLaMA-like language model in eight bits, in C that this machine's compiler makes once."""

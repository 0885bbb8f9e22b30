"""Forms in which others publish or read training data: the reference's json, LLaVA, ms-swift, LLaMA-Factory."""

"""The `openferret` command: a thin shell over `openferret.predictor`.

`main`, `verbs` and `options` only declare, so that `openferret --help` is quick; the rest is imported when a
verb runs.
"""

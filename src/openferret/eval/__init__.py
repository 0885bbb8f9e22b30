"""Evaluation: the paper's benchmarks, each with an `official` score and a `strict` one.

metrics/        pure functions: boxes, captions, two choices, yes and no, calibration, intervals
questions.py    Question: what a model is asked about a picture; Reply: what it said
tasks/          one benchmark a file: genuine files -> questions, replies -> Score
models.py       who is asked: three methods; endpoint.py and peers/ are some of them
dialects.py     how other models write boxes; wording.py is what they are asked
predictions.py  replies as lines of JSON, killed and resumed without loss
runner.py       asks, scores, writes; results.py is the file it writes, report.py and page.py the page made of several
leaks.py        pictures that stand in both of two sets
"""

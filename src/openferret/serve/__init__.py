"""The HTTP server: `openferret serve`. A shell over `predictor.py`; `app.py` puts it together."""

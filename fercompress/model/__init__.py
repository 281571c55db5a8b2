"""The video expression models: an extractor per frame, a predictor over time, and how they are trained."""

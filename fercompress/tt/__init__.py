"""Tensor trains: shapes, cores, decomposition, and the layers that store their weights in them."""

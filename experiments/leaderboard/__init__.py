"""Embeddings of real light curves against hand-made features, see __main__.py."""

"""Classifiers of real light curves with few labels, see __main__.py."""

"""One self-contained HTML file to look at embeddings: what `python -m astrom3.explore` writes."""

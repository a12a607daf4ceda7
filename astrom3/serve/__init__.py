"""An HTTP endpoint for a trained model: what `python -m astrom3.serve` runs."""

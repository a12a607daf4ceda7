"""astrom3: multimodal contrastive learning on variable stars. `import astrom3` needs neither Hydra nor Lightning.

model = astrom3.load("AstroMLCore/AstroM3-CLIP-42")     # or a run folder, or a model folder
"""

from typing import Any

__version__ = "0.1.0"


def load(source: Any, **options: Any) -> Any:
    """A trained model with `embed` and `classify`, see `astrom3.inference.trained.TrainedModel.load`."""
    from astrom3.inference.trained import TrainedModel

    return TrainedModel.load(source, **options)

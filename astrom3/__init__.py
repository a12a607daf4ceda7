"""astrom3: multimodal contrastive learning on variable stars. `import astrom3` needs neither Hydra nor Lightning."""

__version__ = "0.1.0"

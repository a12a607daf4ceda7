"""Compiled loops for the few steps of a network that torch does slowly on the CPU, behind one door: `accelerate`.

accelerate(model)          exchanges layers in place; names of tensors, numbers and gradients stay
"""

from astrom3.encoders.cpu.choice import Processor, accelerate, faster_layers, this_processor

__all__ = ["Processor", "accelerate", "faster_layers", "this_processor"]

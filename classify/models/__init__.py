"""Networks of classifiers: a recipe's [model] -> a network with timm's interface.

cnn.py         the small CNNs, from a list of layers
classifier.py  a backbone with a declared head, registered with timm
creating.py    what a recipe asks for, with its weights; parameters, counted as Keras does
"""

from classify.models.creating import create, embed, head_parameters, layers_of, parameters

__all__ = ["create", "embed", "head_parameters", "layers_of", "parameters"]

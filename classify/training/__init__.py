"""A recipe and labelled images -> a run.

trainer.py     what is trained, on what, where; continues a run that was interrupted
lock.py        the one process that trains a run
preparation.py networks and pixels of a recipe -> a loop that is ready to run
loop.py        the one loop: phases, epochs, steps
objective.py   what a network is trained for: pictures and their loss; the labels
distillation.py  another objective: to agree with a teacher
teacher.py     the network that is agreed with
validation.py  how good a network is on the pictures that are held out
optimiser.py   which layers learn, in which groups, how fast
norms.py       which batch norms learn, and their statistics
precision.py   bfloat16 where it is faster
checkpoint.py  all that a run needs to resume, as one safetensors file
"""

from classify.training.trainer import Trained, train

__all__ = [
    "Trained",
    "train",
]

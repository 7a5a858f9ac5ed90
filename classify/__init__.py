"""Train, evaluate and explain classifiers of images; what is trained here, retrieval can load.

recipe/        a named, declarative experiment: recipes/*.toml, or a user's own file
data.py        folders of labelled images -> splits -> pixels in memory
augmentation.py   pixels -> the picture that is trained on, a batch at a time
models/        the small CNNs, and heads on timm and torchvision backbones
training/      phases, losses, schedules, checkpoints: a recipe and data -> a run
run.py         the folder that training writes, and what reads it
evaluation.py  accuracy, top-5, per-class report, confusion, calibration
heat.py        Grad-CAM, by Captum
explain.py     what a run looks at in pictures, as a grid
samples/       rendered pictures of parts, to try all this on
report/        curves, matrices, grids, the comparison table
"""

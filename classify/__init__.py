"""Train, evaluate and explain classifiers of images; what is trained here, retrieval can load.

recipe/           a named, declarative experiment: recipes/*.toml, or a user's own file
defaults.py       the recipe that fits a folder when none is named
data/             folders of labelled images -> splits -> pixels in memory
augmentation.py   pixels -> the picture that is trained on, a batch at a time
models/           the small CNNs, and heads on timm and torchvision backbones
losses.py         cross-entropy, focal and metric losses
training/         phases, schedules, checkpoints: a recipe and data -> a run
words.py          words that a recipe and the command line have in common
run.py            the folder that training writes, and what reads it
slim.py           a run -> the package's `mini`
predictor.py      a run and images -> classes and their probabilities
evaluation.py     accuracy, top-5, per-class report, confusion, calibration; ranks.py: ties
tested.py         runs and a folder -> an evaluation, of one run or of their mean
leaderboard.py    several runs as one table
heat.py           Grad-CAM, by Captum
explain.py        what a run looks at in pictures, as a grid
server.py         a page on this machine that shows the classes of a dropped image
samples/          rendered pictures of parts, to try all this on
report/           curves, matrices, grids, the comparison table
"""

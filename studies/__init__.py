"""What is run beside `dvc repro`, never in it; results lie in reports/studies/.

    averaging   which decay, and which statistics of the norms, averaged weights should have
    ancestors   greedy layerwise training, and denoising levels
    search      hyperparameters, by `make search`
    depth       what the number of levels does
    frozen      decoders trained end to end on the encoders of each training
    latents     new faces from the latents of training faces
    levels      what each level loses, alone and behind the others
    longer      up to 80 epochs, schedules, and losses that reach through several levels
    pace        what an epoch of each training takes of a core
    norms       what their running statistics cost
    reach       how far the losses of recursive training should reach
    published   what moves the errors of models as released towards the paper's

Whatever is chosen by looking is chosen on `validation`, a part of the training people.
"""

import stages  # noqa: F401  # before PyTorch, as it prepares the environment

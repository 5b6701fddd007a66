"""The fields of a config that are the recipe, and those that only say how it is run, by prefixes of their paths."""

BOOKKEEPING = ("config.log.", "config.checkpoint.")  # change nothing that is learnt
ROUNDING = (  # change weights by no more than rounding
    "config.data.source",
    "config.train.dtype",
    "config.train.eval_batch_size",
    "config.train.num_seeds",
    "config.train.steps_per_dispatch",
    "config.train.vmap_seeds",
)
RESUMABLE = (  # in which a run may differ from what it began with: they leave the sequence of updates as it is
    *BOOKKEEPING,
    "config.data.source",
    "config.train.eval_batch_size",
    "config.train.steps_per_dispatch",
    "config.train.vmap_seeds",
)
DRAWS = (  # choose one of many equal trainings: its seed, and which images are held out
    "config.seed",
    "config.data.fold",
    "config.data.split_seed",
    "config.data.validation_fraction",
)


def is_recipe(path: str) -> bool:
    """Whether two trainings that differ in this field, such as "config.optim.learning_rate", are of two recipes."""
    return not path.startswith((*BOOKKEEPING, *ROUNDING, *DRAWS))

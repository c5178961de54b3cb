"""The ablation of the miniature: does augmentation, does placement keep a model from copying?

What is asked, measured and tested is stated in `miniature/EXPERIMENT.md`, which was committed
before any result. `python -m miniature.ablation run` trains and measures point by point in the
order of `plan.queue` and may be stopped at any moment; `report` makes the tables and figures of
what is there, and `keep` copies into the package what is needed to continue elsewhere.
"""

"""One video, end to end: plan, run, join, check, rename.

`upscale` is the way in. `plan` says everything that can change a byte of the result, as plain data;
`stages` runs decode, inference and encode side by side; `check` proves that the result is the same
film. Nothing heavy is imported before a run needs it: a bad input is refused without torch.
"""

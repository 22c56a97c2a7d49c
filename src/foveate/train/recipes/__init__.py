"""The recipes: one module, or one package with a module `recipe`, for each training method.

`train.api` finds them by their place. Each defines `RECIPE`, and other files are named differently
or inside a package.
"""

"""The recipes, one module or package for each training method."""

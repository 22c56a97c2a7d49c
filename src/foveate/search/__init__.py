"""Searches for networks that cost no more than a target.

`space` describes which MoViNets can be found, `supernet` shares one set of weights between all of
them, `controller` learns which to draw, `costs` says what each costs, and `architecture` is the
search itself. `scaling` searches for coefficients that scale a network up or down.
"""

"""Readers of annotation formats: one file each, all giving the same record.

A reader is a module with two functions: `claims(path)` says whether it knows the format, and
`read(request)` gives a `Listing`. It notes faults and reads on; `detect` does what is the same
for all formats.
"""

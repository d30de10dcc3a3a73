"""Another SGLang than the pinned one, read and never imported: what would break.

`sources` reads Python out of a wheel or the installed package, `symbols` finds a seam in it,
`compare` judges seams and patches, `stamp` prints the table anew after a bump.
"""

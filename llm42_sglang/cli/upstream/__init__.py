"""Another SGLang than the pinned one, read and never imported: what would break.

`modules` reads Python sources out of a wheel or the installed package, `symbols` finds a seam in
them, `compare` judges seams and patches, `fetch` gets a wheel, `report` is what the user sees.
"""

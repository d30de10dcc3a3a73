"""Another SGLang than the pinned one, read and never imported: what would break."""

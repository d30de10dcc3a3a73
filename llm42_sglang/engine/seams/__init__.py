"""Every SGLang symbol the engine relies on, and the check that they are all as expected.

A hook is a row where it is declared (`engine.hooks`); `table` has the rows of what is relied upon
without a hook. SGLang's hook registry fails open: a hook on a name that is gone is logged and
forgotten. So all rows are checked before anything is hooked; one missing or changed symbol ends the
process.
"""

"""`scripts/gpu_acceptance`: everything a GPU machine can show, in one command.

`machine` says what is here, `plan` what is run on it, `matrix` asks one server the same requests
under different loads, `stages` run the parts, `report` writes them down, `main` is the command.
Not yet run on a GPU: its logic is tested with servers that are pretended.
"""

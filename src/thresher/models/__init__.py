"""Where weights come from: a local path, the hub's cache, the embedded MiniLM, the adapters trained here.

`resolve` finds a model's files, `embedded` holds the sentence encoder that comes as a package. Nothing here imports
torch until a model is loaded.
"""

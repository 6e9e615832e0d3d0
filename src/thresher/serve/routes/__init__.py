"""Routes, one module a subject, each with `router(services)`. `thresher.serve.app` takes every module there is."""

"""Stand-ins for the vendors, over real HTTP and gRPC on loopback: scriptable, counting, cheap.

:mod:`.control` starts one from a test; ``python -m tests.fakes.providers`` runs one by itself.
:mod:`.script` says how a call is answered, :mod:`.journal` keeps what was called, :mod:`.server` carries both over
HTTP, and there is one file for each vendor's wire (:mod:`.openai`, :mod:`.stability`, :mod:`.stability_grpc`,
:mod:`.google`).
"""

"""Operations run: their calls are made, waited for and cancelled, by threads or by an event loop.

Each way to wait is a pair of modules: one runs operations, one feeds a stream. They may know the core and gRPC alike.
"""

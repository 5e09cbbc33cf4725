"""TensorFlow's C API, out of the library of its wheel: none of its Python runs in the process of the server."""

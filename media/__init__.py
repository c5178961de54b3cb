"""Pixels and files, in and out, once: pictures, videos, H.264, files, errors, plug-ins.

The lowest room: it imports nothing else of the project, and no torch.
"""

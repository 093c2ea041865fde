"""Builds through BuildKit: a ``buildkitd`` of its own, or the one inside ``dockerd``.

grpc and protobuf are imported when a builder is first asked something.
"""

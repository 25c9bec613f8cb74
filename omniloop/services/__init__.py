"""Services behind gRPC: one client and one server per protocol of the public v0 interface.

`rpc` says what a method is, `connection` calls one, `pool` shares addresses out, `remote`
is what all clients have in common; `serving` and `sessions` are what all servers have in
common; `codec` and `camera_codec` turn messages into arrays and back.
"""

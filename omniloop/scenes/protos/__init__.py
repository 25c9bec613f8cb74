"""Messages of datasets that come as protobuf."""
